package config

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

const canary = "canary-Zk3vQ9"

// A secret stays unprinted whichever way a careless line takes, alone, inside an exported field and inside a field that
// fmt cannot call methods on.
func TestSecretRedacted(t *testing.T) {
	s := Secret{&secretFile{path: "p", line: 3, content: func() []byte { return []byte(canary) }}}
	type outer struct{ Exported Secret }
	type hidden struct{ unexported Secret }
	provider := Provider{Issuer: "https://op.example", Keys: s}
	values := map[string]any{
		"value": s, "pointer": &s, "exported": outer{s}, "unexported": hidden{s}, "slice": []Secret{s},
		"map": map[string]Secret{"k": s}, "provider": provider, "config": &Config{Providers: map[string]Provider{"p": provider}},
	}
	for name, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			unprinted(t, name+" "+verb, fmt.Sprintf(verb, v))
		}
		var text, js bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&js, nil)).Info("m", "v", v)
		unprinted(t, name+" slog text", text.String())
		unprinted(t, name+" slog json", js.String())
		out, err := json.Marshal(v)
		unprinted(t, name+" json", fmt.Sprintf("%s %v", out, err))
		out, err = yaml.Marshal(v)
		unprinted(t, name+" yaml", fmt.Sprintf("%s %v", out, err))
		out, err = xml.Marshal(v)
		unprinted(t, name+" xml", fmt.Sprintf("%s %v", out, err))
		unprinted(t, name+" error", fmt.Errorf("reading %v", v).Error())
	}
	if got := fmt.Sprintf("%v|%+v|%#v|%s|%q", s, s, s, s, s); got != strings.Repeat(redacted+"|", 4)+redacted {
		t.Errorf("printed as %s", got)
	}
	if got, _ := json.Marshal(s); string(got) != `"`+redacted+`"` {
		t.Errorf("encoded as %s", got)
	}
	if string(s.Bytes()) != canary || s.Path() != "p" || s.Line() != 3 || s.IsZero() {
		t.Error("the owner cannot read the secret")
	}
}

// unprinted looks for the content itself and for what %x, %d or base64 make of it.
func unprinted(t *testing.T, where, out string) {
	t.Helper()
	for _, form := range []string{
		canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary),
		strings.Trim(fmt.Sprint([]byte(canary)), "[]"), strings.Trim(fmt.Sprintf("%#v", []byte(canary)), "[]byte{}"), "Y2FuYXJ5",
	} {
		if strings.Contains(out, form) {
			t.Errorf("%s prints the secret: %s", where, out)
		}
	}
}

func TestZeroSecret(t *testing.T) {
	var s Secret
	if !s.IsZero() || s.Bytes() != nil || s.Path() != "" || s.Line() != 0 {
		t.Error("the zero Secret is not empty")
	}
	if got := fmt.Sprint(s); got != redacted {
		t.Errorf("printed as %s: whether a secret is set is nobody's business either", got)
	}
}
