package webhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestVerify(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	body := []byte(`{"type":"step_up.denied"}`)
	secrets := secretsOf(t, vectorSecret, NewSecret())
	good := strings.Fields(Sign(secrets[:1], "evt_1", now, body))[0]
	other := Sign(secretsOf(t, NewSecret()), "evt_1", now, body)
	v1a := "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
	set := func(name, value string) func(http.Header) {
		return func(h http.Header) { h.Set(name, value) }
	}
	del := func(name string) func(http.Header) { return func(h http.Header) { h.Del(name) } }
	sentAt := func(at time.Time) func(http.Header) {
		return func(h http.Header) { clear(h); maps(h, signed(secrets[:1], "evt_1", at, body)) }
	}
	for _, c := range []struct {
		name   string
		change func(http.Header)
		want   string // in the error; empty: accepted
	}{
		{"as signed", func(http.Header) {}, ""},
		{"several, ours last", set("webhook-signature", other+" "+v1a+" "+good), ""},
		{"several, ours first", set("webhook-signature", good+" "+other), ""},
		{"garbage beside it", set("webhook-signature", "  , v1 v1, x,y,z "+good), ""},
		{"exactly five minutes old", sentAt(now.Add(-5 * time.Minute)), ""},
		{"exactly five minutes ahead", sentAt(now.Add(5 * time.Minute)), ""},

		{"a second older", sentAt(now.Add(-5*time.Minute - time.Second)), "old"},
		{"a second further ahead", sentAt(now.Add(5*time.Minute + time.Second)), "ahead"},
		{"no id", del("webhook-id"), "webhook-id"},
		{"no timestamp", del("webhook-timestamp"), "webhook-timestamp"},
		{"no signature", del("webhook-signature"), "webhook-signature"},
		{"empty id", set("webhook-id", ""), "webhook-id"},
		{"empty signature", set("webhook-signature", ""), "webhook-signature"},
		{"two ids", func(h http.Header) { h.Add("webhook-id", "evt_2") }, "once"},
		{"two timestamps", func(h http.Header) { h.Add("webhook-timestamp", "1") }, "once"},
		{"two signature headers", func(h http.Header) { h.Add("webhook-signature", good) }, "once"},
		{"another id", set("webhook-id", "evt_2"), "no signature matches"},
		{"id with a dot", set("webhook-id", "evt.1"), "malformed webhook-id"},
		{"long id", set("webhook-id", strings.Repeat("e", 257)), "malformed webhook-id"},
		{"another timestamp in the window", set("webhook-timestamp", "1800000001"), "no signature matches"},
		{"timestamp with a sign", set("webhook-timestamp", "+1800000000"), "malformed webhook-timestamp"},
		{"negative timestamp", set("webhook-timestamp", "-1"), "malformed webhook-timestamp"},
		{"timestamp with zeros", set("webhook-timestamp", "001800000000"), "no signature matches"},
		{"timestamp in milliseconds", set("webhook-timestamp", "1800000000000"), "malformed webhook-timestamp"},
		{"fraction", set("webhook-timestamp", "1800000000.5"), "malformed webhook-timestamp"},
		{"huge timestamp", set("webhook-timestamp", "99999999999999999999"), "malformed webhook-timestamp"},
		{"words", set("webhook-timestamp", "now"), "malformed webhook-timestamp"},
		{"another secret", set("webhook-signature", other), "no signature matches"},
		{"only an unknown version", set("webhook-signature", v1a), "no signature matches"},
		{"right bytes, unknown version", set("webhook-signature", "v2,"+strings.TrimPrefix(good, "v1,")), "no signature matches"},
		{"no version", set("webhook-signature", strings.TrimPrefix(good, "v1,")), "no signature matches"},
		{"empty v1", set("webhook-signature", "v1,"), "no signature matches"},
		{"cut short", set("webhook-signature", good[:len(good)-4]), "no signature matches"},
		{"without padding", set("webhook-signature", strings.TrimRight(good, "=")), "no signature matches"},
		{"joined by commas", set("webhook-signature", good+","+other), "no signature matches"},
		{"garbage", set("webhook-signature", "\x00\xff v1"), "no signature matches"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := signed(secrets[:1], "evt_1", now, body)
			c.change(h)
			err := Verify(h, body, secrets, now)
			if c.want == "" && err != nil {
				t.Fatal(err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
		})
	}
	h := signed(secrets, "evt_1", now, body)
	if Verify(h, append(bytes.Clone(body), ' '), secrets, now) == nil {
		t.Error("a body with a blank more is accepted")
	}
	if Verify(h, body, nil, now) == nil {
		t.Error("accepted without a secret")
	}
}

func maps(to, from http.Header) {
	for k, v := range from {
		to[k] = v
	}
}

func TestRead(t *testing.T) {
	secrets, now := secretsOf(t, vectorSecret), time.Now()
	request := func(body []byte) *http.Request {
		r := httptest.NewRequest("POST", "/hook", bytes.NewReader(body))
		r.Header = signed(secrets, "evt_1", now, body)
		return r
	}
	body := bytes.Repeat([]byte("a"), 64<<10)
	m, err := Read(request(body), secrets, now)
	if err != nil || m.ID != "evt_1" || !bytes.Equal(m.Body, body) {
		t.Errorf("64 KiB: id %q, %d bytes, error %v", m.ID, len(m.Body), err)
	}
	m, err = Read(request(append(body, 'a')), secrets, now)
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); !tooLong || m.Body != nil {
		t.Errorf("64 KiB and a byte: %d bytes, error %v", len(m.Body), err)
	}
	r := request([]byte(`{}`))
	r.Body = io.NopCloser(strings.NewReader(`{"forged":true}`))
	if m, err = Read(r, secrets, now); err == nil || m.ID != "" || m.Body != nil {
		t.Errorf("forged body: %+v, error %v", m, err)
	}
	r = request([]byte(`{}`))
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{`), brokenReader{}))
	if _, err = Read(r, secrets, now); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut body: %v", err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// FuzzVerify holds Verify against a second reading of the specification, and then checks
// that a genuine message with one bit changed anywhere is refused.
func FuzzVerify(f *testing.F) {
	secrets := secretsOf(f, vectorSecret)
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(vectorSecret, "whsec_"))
	now := time.Unix(vectorTime, 0)
	f.Add(vectorID, strconv.Itoa(vectorTime), vectorSignature, []byte(vectorBody), uint(0))
	f.Add(vectorID, strconv.Itoa(vectorTime), "v1a,AAAA "+vectorSignature, []byte(vectorBody), uint(400))
	f.Add(vectorID, "+"+strconv.Itoa(vectorTime), vectorSignature, []byte(vectorBody), uint(7))
	f.Add("a.1614265330", strconv.Itoa(vectorTime), "v1,", []byte("1.x"), uint(9))
	f.Add("", "", "", []byte(nil), uint(1))
	f.Fuzz(func(t *testing.T, id, timestamp, signature string, body []byte, at uint) {
		h := http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {timestamp}, "Webhook-Signature": {signature}}
		accepted := Verify(h, body, secrets, now) == nil

		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + timestamp + "." + string(body)))
		want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
		n, err := strconv.ParseInt(timestamp, 10, 64)
		inTime := err == nil && strconv.FormatInt(n, 10) == timestamp && n >= vectorTime-300 && n <= vectorTime+300
		listed := false
		for _, s := range strings.Split(signature, " ") {
			listed = listed || s == want
		}
		if accepted != (listed && inTime && validID(id)) {
			t.Fatalf("accepted: %v, listed: %v, in time: %v", accepted, listed, inTime)
		}

		if !validID(id) {
			return
		}
		parts := [][]byte{[]byte(id), []byte(strconv.Itoa(vectorTime)), []byte(Sign(secrets, id, now, body)), bytes.Clone(body)}
		bit := at % uint(8*len(bytes.Join(parts, nil)))
		for _, p := range parts {
			if bit < uint(8*len(p)) {
				p[bit/8] ^= 1 << (bit % 8)
				break
			}
			bit -= uint(8 * len(p))
		}
		h = http.Header{"Webhook-Id": {string(parts[0])}, "Webhook-Timestamp": {string(parts[1])}, "Webhook-Signature": {string(parts[2])}}
		if Verify(h, parts[3], secrets, now) == nil {
			t.Fatalf("bit %d changed, and still accepted", at)
		}
	})
}
