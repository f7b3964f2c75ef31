package webhook

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
)

func TestParseHeaders(t *testing.T) {
	const canary = "hunter2"
	lines := func(n int, size int) (text string) {
		for i := range n {
			text += fmt.Sprintf("X-%02d: %s\n", i, strings.Repeat("a", size))
		}
		return text
	}
	for _, c := range []struct{ name, file, want string }{
		{"one", "Authorization: Bearer " + canary, ""},
		{"comments, blanks, CRLF", "# token\r\n\r\n \t\nX-Tenant:\tbank  \r\nX-Two:2\n", ""},
		{"16", lines(16, 1), ""},
		{"17", lines(17, 1), "17 headers in it, and at most 16"},
		{"4096 bytes", lines(1, 4092), ""},
		{"4097 bytes", lines(1, 4093), "4097 bytes of headers"},
		{"nothing", "# soon\n", "no header in it"},
		{"no colon", "\n" + canary, "line 2: must be `Name: value`"},
		{"no name", ": " + canary, "line 1: must be `Name: value`"},
		{"a blank in the name", canary + " x: y", "line 1: must be `Name: value`"},
		{"a blank before the colon", "X-A : y", "line 1: must be `Name: value`"},
		{"a folded line", "X-A: y\n b: " + canary, "line 2: must be `Name: value`"},
		{"not ASCII in the name", "X-Ä: y", "line 1: must be `Name: value`"},
		{"no value", "X-A: \t", "line 1: has no value"},
		{"a control character", "X-A: a\x00" + canary, "line 1: the value has a character"},
		{"a tab inside", "X-A: a\tb", "line 1: the value has a character"},
		{"a lone CR", "X-A: a\rwebhook-id: evt_2", "line 1: the value has a character"},
		{"not ASCII", "X-A: ä" + canary, "line 1: the value has a character"},
		{"twice", "X-A: a\nx-a: " + canary, "line 2: the same name as line 1"},
		{"all mistakes", "Host: a\nX-A:", "line 1: host is set by stepup or belongs to the connection; remove it\nline 2: has no value"},
	} {
		all, err := ParseHeaders([]byte(c.file))
		switch {
		case c.want == "" && (err != nil || len(all) == 0):
			t.Errorf("%s: %v, %v", c.name, all, err)
		case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want) || all != nil):
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		case err != nil && strings.Contains(err.Error(), canary):
			t.Errorf("%s: a value is repeated: %v", c.name, err)
		}
	}
	for _, name := range []string{
		"webhook-id", "Webhook-Signature", "webhook-timestamp", "webhook-x", "Content-Type", "content-length", "Content-Encoding", "HOST", "Connection",
		"Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Expect", "Traceparent", "tracestate",
		"Baggage", "Accept-Encoding", "User-Agent", "Idempotency-Key", "X-Idempotency-Key",
	} {
		if _, err := ParseHeaders([]byte(name + ": x\n")); err == nil || !strings.Contains(err.Error(), "line 1: ") || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Headers of the endpoint arrive, and ours are ours whatever they say.
func TestHeadersArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen http.Header
		s, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) { seen = r.Header })
		headers, err := ParseHeaders([]byte("Authorization: Bearer canary\nx-tenant: bank: one\n"))
		if err != nil {
			t.Fatal(err)
		}
		// No file can say these, see above; the request holds them off once more.
		for _, name := range []string{"webhook-id", "WEBHOOK-SIGNATURE", "webhook-timestamp", "content-type", "user-agent", "baggage"} {
			headers = append(headers, Header{hidden{func() []byte { return []byte("theirs") }}, name})
		}
		headers = append(headers, Header{})
		a := s.Send(t.Context(), Endpoint{URL: "http://bank.example/", Secrets: secretsOf(t, vectorSecret), Headers: headers}, Message{"evt_1", []byte(`{}`)})
		if a.Outcome != Delivered {
			t.Fatalf("%+v", a)
		}
		if seen.Get("Authorization") != "Bearer canary" || seen.Get("X-Tenant") != "bank: one" {
			t.Errorf("%v", seen)
		}
		for name, values := range seen {
			if len(values) != 1 || values[0] == "theirs" {
				t.Errorf("%s: %q", name, values)
			}
		}
	})
}
