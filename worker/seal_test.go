package worker

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// sealLine is a line of a key file with a key of one repeated byte.
func sealLine(kid string, b byte) string {
	return "seal " + kid + " " + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32)) + "\n"
}

var indexLine = strings.Replace(sealLine("", 9), "seal  ", "index ", 1)

func mustParse(t *testing.T, file string) *Sealer {
	t.Helper()
	s, err := ParseSealKeys([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A mistake in a key file is named by its line, and nothing of the line is repeated.
func TestSealKeyMistakes(t *testing.T) {
	const canary = "Q0FOQVJZQ0FOQVJZQ0FOQVJZ"
	good := sealLine("k1", 1)
	for _, c := range []struct{ name, file, want string }{
		{"empty", "", "no `seal"},
		{"comments only", "# nothing\n\n   # here\n", "no `seal"},
		{"no index", good, "no `index"},
		{"no seal", indexLine, "no `seal"},
		{"key too short", good + "seal k2 " + canary + "\n" + indexLine, "line 2: the key must be the base64 of 32 bytes"},
		{"not base64", "\n# c\nseal k1 " + canary + "!\n", "line 3: the key must be the base64 of 32 bytes"},
		{"index too short", good + "index " + canary, "line 2: the key must be the base64 of 32 bytes"},
		{"second index", good + indexLine + "\n" + indexLine, "line 4: a second index"},
		{"kid twice", good + sealLine("k1", 2) + indexLine, "line 2: the key id is there already"},
		{"kid too long", sealLine(strings.Repeat(canary, 3), 1), "line 1: the key id is longer"},
		{"no kid", "seal " + canary, "line 1: must be `seal"},
		{"a word too many", strings.TrimSpace(good) + " " + canary, "line 1: must be `seal"},
		{"another word", good + canary + " " + canary, "line 2: must be `seal"},
		{"every mistake", "nonsense\n" + good + "index x\n", "line 1: must be `seal <kid> <base64>` or `index <base64>`; `stepup keygen` writes such lines\nline 3: the key"},
		{"a line of 100 KiB", good + strings.Repeat(canary, 5000), "a line is too long"},
	} {
		_, err := ParseSealKeys([]byte(c.file))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		} else if strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "AQEB") {
			t.Errorf("%s: the error repeats the file: %v", c.name, err)
		}
	}
	if _, err := ParseSealKeys(NewSealKeys()); err != nil {
		t.Errorf("a fresh file: %v", err)
	}
	if _, err := ParseSealKeys([]byte("\r\n" + strings.ReplaceAll(good+indexLine, "\n", "\r\n"))); err != nil {
		t.Errorf("with CRLF: %v", err)
	}
}

func sealedRecord() *record {
	return &record{ID: "su_00" + strings.Repeat("A", 26), Caller: "bank", Provider: "singpass"}
}

// Rotation: the first key seals, all open; the index stays, so hashes do too.
func TestSealRotation(t *testing.T) {
	old := mustParse(t, sealLine("k1", 1)+indexLine)
	both := mustParse(t, sealLine("k1", 1)+sealLine("k2", 2)+indexLine)
	moved := mustParse(t, sealLine("k2", 2)+sealLine("k1", 1)+indexLine)
	last := mustParse(t, sealLine("k2", 2)+indexLine)
	r := sealedRecord()
	for _, c := range []struct {
		name      string
		by, reads *Sealer
		err       error
	}{
		{"old by both", old, both, nil},
		{"both by old: the first seals", both, old, nil},
		{"old by moved", old, moved, nil},
		{"moved by both", moved, both, nil},
		{"moved by old", moved, old, errNoKey},
		{"moved by last", moved, last, nil},
		{"old by last", old, last, errNoKey},
	} {
		plain, err := c.reads.open(r, "ask", c.by.seal(r, "ask", []byte("S1234567D")))
		if !errors.Is(err, c.err) || c.err == nil && string(plain) != "S1234567D" {
			t.Errorf("%s: %q, %v", c.name, plain, err)
		}
		if c.by.hash("person", "x") != c.reads.hash("person", "x") {
			t.Errorf("%s: the hashes differ", c.name)
		}
	}
}

// A blob that was edited or moved does not open; one under an unknown key is
// another's, not tampered with.
func TestSealTampering(t *testing.T) {
	s := mustParse(t, sealLine("k1", 1)+sealLine("k2", 2)+indexLine)
	r := sealedRecord()
	blob := s.seal(r, "result", []byte("approved"))
	for i := range len(blob) {
		for _, bit := range []byte{1, 0x80} {
			b := []byte(blob)
			b[i] ^= bit
			if _, err := s.open(r, "result", string(b)); err == nil {
				t.Errorf("opens with byte %d changed", i)
			}
		}
		if _, err := s.open(r, "result", blob[:i]); !errors.Is(err, errTampered) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
	other := func(change func(*record)) *record { o := *r; change(&o); return &o }
	for name, err := range map[string]error{
		"another field":       second(s.open(r, "raw", blob)),
		"another step-up":     second(s.open(other(func(o *record) { o.ID = "su_00" + strings.Repeat("B", 26) }), "result", blob)),
		"another caller":      second(s.open(other(func(o *record) { o.Caller = "other" }), "result", blob)),
		"another provider":    second(s.open(other(func(o *record) { o.Provider = "sgid" }), "result", blob)),
		"longer":              second(s.open(r, "result", blob+"x")),
		"under our other key": second(s.open(r, "result", "k2"+blob[2:])),
		"nothing":             second(s.open(r, "result", "")),
	} {
		if !errors.Is(err, errTampered) || errors.Is(err, errNoKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.open(r, "result", "k3"+blob[2:]); !errors.Is(err, errNoKey) || errors.Is(err, errTampered) {
		t.Errorf("unknown key: %v", err)
	}
	if again := s.seal(r, "result", []byte("approved")); again == blob {
		t.Error("the same plain text seals to the same bytes")
	}
}

func second(_ []byte, err error) error { return err }

// A hash is of its parts, not of their sum, and of the key.
func TestSealHash(t *testing.T) {
	s := mustParse(t, sealLine("k1", 1)+indexLine)
	if s.hash("a", "bc") == s.hash("ab", "c") || s.hash("a") == s.hash("a", "") || s.hash("a") != mustParse(t, sealLine("k2", 2)+indexLine).hash("a") {
		t.Error("hashes of parts")
	}
	if s.hash("a") == mustParse(t, string(NewSealKeys())).hash("a") {
		t.Error("the hash does not depend on the key")
	}
}

// The keys print as nothing, however they are printed.
func TestSealerIsRedacted(t *testing.T) {
	s := mustParse(t, sealLine("k1", 1)+indexLine)
	var log bytes.Buffer
	holder := struct {
		S *Sealer
		V Sealer
		v Sealer // fmt asks no method here
	}{s, *s, *s}
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("keys", "p", s, "v", *s, "in", holder, "set", Settings{Sealer: s})
	}
	out := log.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		out += fmt.Sprintf(verb, s) + fmt.Sprintf(verb, *s) + fmt.Sprintf(verb, holder) + fmt.Sprintf(verb, []*Sealer{s})
	}
	for _, v := range []any{s, *s, holder} {
		if b, err := json.Marshal(v); err == nil {
			out += string(b)
		}
	}
	for _, leak := range []string{"AQEBAQ", "CQkJCQ", "01010101", "09090909", "1 1 1 1", "9 9 9 9", "9, 9, 9", "0x9, 0x9", `\t\t\t`, "\t\t\t"} {
		if strings.Contains(out, leak) {
			t.Errorf("printed with %q:\n%s", leak, out)
		}
	}
}
