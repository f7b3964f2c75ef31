package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"stepup/ciba"
	"stepup/ciba/jose"
	"stepup/webhook"
	"stepup/worker"
	"stepup/worker/api"
)

// TestSecretsAreRedacted loads a complete configuration with real secrets, and prints everything that came of it in every
// way there is: no secret comes out.
func TestSecretsAreRedacted(t *testing.T) {
	p := loadGood(t)
	leaks := newLeaks()
	leaks.addFiles(t)
	settings := p.settings
	caller, provider := settings.Callers["core"], p.cfg.Providers["singpass"]
	hashes, err := api.ParseAPIKeys(p.cfg.Callers["core"].APIKeys.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := jose.ReadKeys(provider.Keys.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	asserter, err := keys.Asserter("abc", "https://op.example")
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]any{
		"parts": p, "parts by value": *p, "service": &service{path: "stepup.yaml", log: slog.Default()}, "started": &service{started: p.cfg},
		"config": p.cfg, "config by value": *p.cfg, "listen": p.cfg.Listen, "redis": p.cfg.Redis, "seal": p.cfg.Seal,
		"provider": provider, "caller": p.cfg.Callers["core"], "webhook": p.cfg.Callers["core"].Webhooks[0], "secret": p.cfg.Seal.Keys,
		"settings": settings, "settings pointer": &settings, "worker's caller": caller, "worker's provider": settings.Providers["singpass"],
		"options": worker.Options{Log: slog.Default()}, "endpoint": caller.Webhooks[0].Endpoint,
		"endpoint with all": caller.Webhooks[1].Endpoint, "headers": caller.Webhooks[1].Endpoint.Headers, "sealer": settings.Sealer,
		"sealer by value": *settings.Sealer, "sender": settings.Sender, "client": p.clients["singpass"], "keys": keys, "keys by value": *keys,
		"asserter": asserter, "asserter by value": *asserter,
		"ciba config": ciba.Config{ClientID: "abc", Keys: keys}, "opener": jose.Opener{Keys: keys}, "callers": p.callers,
		"callers by value": *p.callers, "key hash": hashes[0], "api caller": api.Caller{Keys: hashes}, "listener's TLS": p.apiTLS,
	} {
		for _, held := range holders(v) {
			leaks.look(t, name, held, encoders)
		}
		for _, part := range within(reflect.ValueOf(v)) {
			leaks.look(t, fmt.Sprintf("%s, in it %T", name, part), part, encoders)
		}
	}
}

// TestPersonsAreRedacted prints what holds a person's data. Whoever asks json.Marshal for it gets it, for that is how it is
// sealed and how callers are answered; fmt, slog and the program's log never tell it.
func TestPersonsAreRedacted(t *testing.T) {
	const nric, token = "S8765432Z", "canary.id.token"
	leaks := newLeaks()
	for _, canary := range []string{nric, token, "canary-uuid", "canary-claim", "canary-auth-req-id", "canary-binding", "canary-reference", "canary-metadata", "canary-key"} {
		leaks.add(canary)
	}
	uuid, reference := "canary-uuid", "canary-reference"
	metadata := map[string]string{"canary-metadata": "canary-metadata"}
	question := worker.Question{LoginHint: nric, BindingMessage: "canary-binding", IDTokenHint: token, LoginHintToken: token, UserCode: "canary-key"}
	who := ciba.Identity{Subject: "s=" + nric, NRIC: new(nric), UUID: &uuid, Claims: map[string]any{"c": "canary-claim"}, IDToken: token}
	view := worker.StepUp{ID: "su_1", Status: worker.Approved, Reference: &reference, Metadata: metadata, Identity: &who}
	expect := ciba.Expect{Request: question, Created: time.Now()}
	for name, v := range map[string]any{
		"question": question, "identity": who, "expectation": expect, "step-up": view, "page": worker.Page{StepUps: []worker.StepUp{view}},
		"filter": worker.Filter{Reference: reference},
		"events": worker.Events{Events: []worker.Pulled{{ID: "evt_1", Event: json.RawMessage(`{"nric":"` + nric + `","reference":"canary-reference"}`)}}},
	} {
		for _, held := range holders(v) {
			leaks.look(t, name, held, nil)
		}
		if told, err := json.Marshal(v); err != nil || !strings.Contains(string(told), "canary-") {
			t.Errorf("%s: json.Marshal tells %s, %v", name, told, err)
		}
	}
	// What nobody marshals is hidden from encoders of text too.
	for name, v := range map[string]any{
		"receipt": ciba.Ack{AuthReqID: "canary-auth-req-id"},
		"asked":   worker.Asked{ID: "canary-auth-req-id", Question: question, Raw: token},
		"request": worker.Request{IdempotencyKey: "canary-key", Question: question, Reference: reference, Metadata: metadata},
		"message": webhook.Message{ID: "evt_1", Body: []byte(nric + token)},
		"error":   &ciba.Unverified{IDToken: token, Err: jose.ErrKeys},
	} {
		for _, held := range holders(v) {
			leaks.look(t, name, held, encodersOfText)
		}
	}
}

// loadGood loads the complete configuration in a folder of its own.
func loadGood(t *testing.T) *parts {
	t.Helper()
	good := read(t, "testdata/broken/stepup.yaml")
	t.Chdir(t.TempDir())
	makeGood(t)
	write(t, ".", "stepup.yaml", good)
	p, err := load("stepup.yaml", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// holders are the ways in which somebody may have v in hand.
func holders(v any) []any {
	pointer := reflect.New(reflect.TypeOf(v))
	pointer.Elem().Set(reflect.ValueOf(v))
	slice := reflect.MakeSlice(reflect.SliceOf(pointer.Elem().Type()), 0, 1)
	return []any{
		v, pointer.Interface(), reflect.Append(slice, pointer.Elem()).Interface(), []any{v}, map[string]any{"k": v},
		struct{ V any }{v}, struct{ V any }{pointer.Interface()},
	}
}

// within is everything of ours that can be reached through exported fields, pointers, maps and lists.
func within(v reflect.Value) (found []any) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			found = within(v.Elem())
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			found = append(found, within(v.Index(i))...)
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			found = append(found, within(it.Value())...)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				found = append(found, within(v.Field(i))...)
			}
		}
	}
	if strings.HasPrefix(v.Type().PkgPath(), "stepup/") && v.CanInterface() {
		found = append(found, v.Interface())
	}
	return found
}

// leaks are secrets, in all the forms that printing may give them.
type leaks struct{ forms map[string]bool }

func newLeaks() *leaks { return &leaks{forms: map[string]bool{}} }

// addFiles takes the secrets out of the files in secrets/.
func (l *leaks) addFiles(t *testing.T) {
	t.Helper()
	var set struct{ Keys []struct{ D string } }
	if err := json.Unmarshal([]byte(read(t, "secrets/private.jwks.json")), &set); err != nil || len(set.Keys) != 2 {
		t.Fatalf("%d keys, %v", len(set.Keys), err)
	}
	words := []string{strings.TrimSpace(read(t, "secrets/admin.token")), strings.TrimSpace(read(t, "secrets/redis"))}
	_, value, _ := strings.Cut(strings.TrimSpace(read(t, "secrets/fraud.headers")), ": ")
	words = append(words, value)
	for _, k := range set.Keys {
		words = append(words, k.D)
	}
	for _, name := range []string{"seal.keys", "core.apikeys", "branch.apikeys", "ledger.whsec", "fraud.whsec", "till.whsec"} {
		for _, word := range strings.FieldsFunc(read(t, "secrets/"+name), func(r rune) bool { return r == ' ' || r == '\n' || r == ':' }) {
			if word = strings.TrimPrefix(word, "whsec_"); len(word) > 40 {
				words = append(words, word)
			}
		}
	}
	if len(words) != 2+1+2+2+5 {
		t.Fatalf("%d secrets", len(words))
	}
	for _, word := range words {
		l.add(word)
		for _, decode := range []func(string) ([]byte, error){base64.StdEncoding.DecodeString, base64.RawURLEncoding.DecodeString, hex.DecodeString} {
			if raw, err := decode(word); err == nil {
				l.add(string(raw))
			}
		}
	}
	pair, err := tls.LoadX509KeyPair("secrets/server.crt", "secrets/server.key")
	if err != nil {
		t.Fatal(err)
	}
	d, err := pair.PrivateKey.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	l.add(string(d))
}

// add notes the beginning of a secret as it is, in %x, %X, %d and %q, in base64, and as a number.
func (l *leaks) add(secret string) {
	cut := secret[:min(len(secret), 12)]
	decimal := strings.Trim(fmt.Sprint([]byte(cut)), "[]")
	l.forms[cut] = true
	l.forms[fmt.Sprintf("%x", cut)] = true
	l.forms[fmt.Sprintf("%X", cut)] = true
	l.forms[decimal] = true
	l.forms[strings.ReplaceAll(decimal, " ", ",")] = true
	l.forms[strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", []byte(cut)), "[]byte{"), "}")] = true
	l.forms[strings.Trim(fmt.Sprintf("%q", cut), `"`)] = true
	l.forms[base64.StdEncoding.EncodeToString([]byte(cut[:len(cut)/3*3]))] = true
	if len(secret) == 32 {
		l.forms[new(big.Int).SetBytes([]byte(secret)).String()] = true
	}
}

type encoder func(v any) ([]byte, error)

var (
	encodersOfText = map[string]encoder{"json": json.Marshal, "yaml": yaml.Marshal, "xml": xml.Marshal}
	encoders       = map[string]encoder{"json": json.Marshal, "yaml": yaml.Marshal, "xml": xml.Marshal, "gob": func(v any) ([]byte, error) {
		var b bytes.Buffer
		err := gob.NewEncoder(&b).Encode(v)
		return b.Bytes(), err
	}}
)

// look prints v in every way, and wants no secret to show. Without encoders it stays away from what encodes: JSON beneath a
// structure in slog's own handler.
func (l *leaks) look(t *testing.T, name string, v any, encoders map[string]encoder) {
	t.Helper()
	out := map[string]string{"Sprint": fmt.Sprint(v), "error": fmt.Errorf("reading: %v", v).Error()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "% x", "%20v"} {
		out[verb] = fmt.Sprintf(verb, v)
	}
	var text, ours, oursText, raw bytes.Buffer
	logs := map[string]*bytes.Buffer{"slog text": &text, "our log": &ours, "our log as text": &oursText}
	loggers := []*slog.Logger{slog.New(slog.NewTextHandler(&text, nil)), newLog(&ours, "json"), newLog(&oursText, "text")}
	if _, asked := v.(slog.LogValuer); asked || encoders != nil {
		logs["slog JSON"] = &raw
		loggers = append(loggers, slog.New(slog.NewJSONHandler(&raw, nil)))
	}
	for _, log := range loggers {
		log.With("with", v).WithGroup("g").Info("m", "v", v, slog.Group("h", "v", slog.AnyValue(v)))
	}
	for way, b := range logs {
		out[way] = b.String()
	}
	for way, encode := range encoders {
		b, err := encode(v)
		out[way] = fmt.Sprintf("%s %v", b, err)
	}
	for way, printed := range out {
		for form := range l.forms {
			if strings.Contains(printed, form) {
				t.Errorf("%s (%T) by %s tells %q", name, v, way, form)
				break
			}
		}
	}
}

// TestLogTakesNoStructures: what the program logs is a word, a number, a time or an error; of anything else only the type.
func TestLogTakesNoStructures(t *testing.T) {
	var b bytes.Buffer
	log := newLog(&b, "json")
	log.Error("m", "role", worker.RoleAll, "n", 7, "took", time.Second, "error", os.ErrNotExist, "none", nil,
		"held", struct{ Who ciba.Identity }{ciba.Identity{Subject: "canary"}}, "list", []worker.Question{{LoginHint: "canary"}})
	var line map[string]any
	if err := json.Unmarshal(b.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	delete(line, "time")
	want := map[string]any{
		"level": "ERROR", "msg": "m", "role": "all", "n": 7.0, "took": 1e9, "error": "file does not exist", "none": nil,
		"held": "struct { Who ciba.Identity }", "list": "[]ciba.Request",
	}
	if !reflect.DeepEqual(line, want) {
		t.Errorf("logged %v\nwant   %v", line, want)
	}
}
