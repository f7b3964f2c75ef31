package webhook

import (
	"bytes"
	"crypto/ed25519"
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
	private, public := NewKeyPair()
	v1a := Sign(secretsOf(t, private), "evt_1", now, body)
	anothers, _ := NewKeyPair()
	otherV1a := Sign(secretsOf(t, anothers), "evt_1", now, body)
	key := keysOf(t, public)
	keys := append(Keys(secrets), key...)
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
		keys   []Key  // the receiver's; if nil: both secrets
	}{
		{"as signed", func(http.Header) {}, "", nil},
		{"several, ours last", set("webhook-signature", other+" "+v1a+" "+good), "", nil},
		{"several, ours first", set("webhook-signature", good+" "+other), "", nil},
		{"garbage beside it", set("webhook-signature", "  , v1 v1, x,y,z "+good), "", nil},
		{"exactly five minutes old", sentAt(now.Add(-5 * time.Minute)), "", nil},
		{"exactly five minutes ahead", sentAt(now.Add(5 * time.Minute)), "", nil},

		{"a second older", sentAt(now.Add(-5*time.Minute - time.Second)), "old", nil},
		{"a second further ahead", sentAt(now.Add(5*time.Minute + time.Second)), "ahead", nil},
		{"no id", del("webhook-id"), "webhook-id", nil},
		{"no timestamp", del("webhook-timestamp"), "webhook-timestamp", nil},
		{"no signature", del("webhook-signature"), "webhook-signature", nil},
		{"empty id", set("webhook-id", ""), "webhook-id", nil},
		{"empty signature", set("webhook-signature", ""), "webhook-signature", nil},
		{"two ids", func(h http.Header) { h.Add("webhook-id", "evt_2") }, "once", nil},
		{"two timestamps", func(h http.Header) { h.Add("webhook-timestamp", "1") }, "once", nil},
		{"two signature headers", func(h http.Header) { h.Add("webhook-signature", good) }, "once", nil},
		{"another id", set("webhook-id", "evt_2"), "no signature matches", nil},
		{"id with a dot", set("webhook-id", "evt.1"), "malformed webhook-id", nil},
		{"long id", set("webhook-id", strings.Repeat("e", 257)), "malformed webhook-id", nil},
		{"another timestamp in the window", set("webhook-timestamp", "1800000001"), "no signature matches", nil},
		{"timestamp with a sign", set("webhook-timestamp", "+1800000000"), "malformed webhook-timestamp", nil},
		{"negative timestamp", set("webhook-timestamp", "-1"), "malformed webhook-timestamp", nil},
		{"timestamp with zeros", set("webhook-timestamp", "001800000000"), "no signature matches", nil},
		{"timestamp in milliseconds", set("webhook-timestamp", "1800000000000"), "malformed webhook-timestamp", nil},
		{"fraction", set("webhook-timestamp", "1800000000.5"), "malformed webhook-timestamp", nil},
		{"huge timestamp", set("webhook-timestamp", "99999999999999999999"), "malformed webhook-timestamp", nil},
		{"words", set("webhook-timestamp", "now"), "malformed webhook-timestamp", nil},
		{"another secret", set("webhook-signature", other), "no signature matches", nil},
		{"only v1a, and no public key", set("webhook-signature", v1a), "no signature matches", nil},
		{"right bytes, unknown version", set("webhook-signature", "v2,"+strings.TrimPrefix(good, "v1,")), "no signature matches", nil},
		{"no version", set("webhook-signature", strings.TrimPrefix(good, "v1,")), "no signature matches", nil},
		{"empty v1", set("webhook-signature", "v1,"), "no signature matches", nil},
		{"cut short", set("webhook-signature", good[:len(good)-4]), "no signature matches", nil},
		{"without padding", set("webhook-signature", strings.TrimRight(good, "=")), "no signature matches", nil},
		{"joined by commas", set("webhook-signature", good+","+other), "no signature matches", nil},
		{"garbage", set("webhook-signature", "\x00\xff v1"), "no signature matches", nil},

		{"v1a", set("webhook-signature", v1a), "", key},
		{"v1a, for a receiver with both", set("webhook-signature", v1a), "", keys},
		{"v1 alone, for a receiver with both", set("webhook-signature", good), "", keys},
		{"v1a behind v1", set("webhook-signature", good+" "+v1a), "", key},
		{"v1a behind another's", set("webhook-signature", otherV1a+" v1a,AAAA v1a, "+v1a), "", key},
		{"the last that is looked at", set("webhook-signature", strings.Repeat("v9,x ", 31)+v1a), "", key},
		{"v1 the last that is looked at", set("webhook-signature", strings.Repeat("v9,x ", 31)+good), "", nil},
		{"the first that is not", set("webhook-signature", strings.Repeat("v9,x ", 32)+v1a), "no signature matches", key},
		{"v1 the first that is not", set("webhook-signature", strings.Repeat("v9,x ", 32)+good), "no signature matches", nil},
		{"only v1, and no secret", set("webhook-signature", good), "no signature matches", key},
		{"another's v1a", set("webhook-signature", otherV1a), "no signature matches", key},
		{"v1a called v1", set("webhook-signature", "v1,"+strings.TrimPrefix(v1a, "v1a,")), "no signature matches", keys},
		{"v1 called v1a", set("webhook-signature", "v1a,"+strings.TrimPrefix(good, "v1,")), "no signature matches", keys},
		{"v1 made with the public key", set("webhook-signature", "v1,"+mac(key[0].key(), content("evt_1", "1800000000", body))), "no signature matches", keys},
		{"v1a of another id", func(h http.Header) { h.Set("webhook-signature", v1a); h.Set("webhook-id", "evt_2") }, "no signature matches", key},
		{"v1a without padding", set("webhook-signature", strings.TrimRight(v1a, "=")), "no signature matches", key},
		{"v1a in another spelling", set("webhook-signature", respelt(v1a)), "no signature matches", key},
		{"v1a cut short", set("webhook-signature", v1a[:len(v1a)-4]), "no signature matches", key},
		{"no key", func(http.Header) {}, "no signature matches", []Key{{}, {asymmetric: true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := signed(secrets[:1], "evt_1", now, body)
			c.change(h)
			with := c.keys
			if with == nil {
				with = Keys(secrets)
			}
			err := Verify(h, body, with, now)
			if c.want == "" && err != nil {
				t.Fatal(err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
		})
	}
	h := signed(secrets, "evt_1", now, body)
	if Verify(h, append(bytes.Clone(body), ' '), keys, now) == nil {
		t.Error("a body with a blank more is accepted")
	}
	if Verify(h, body, nil, now) == nil {
		t.Error("accepted without a key")
	}
}

// respelt sets the bits of a v1a signature's last character that Base64 does not use.
func respelt(v1a string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	last := len(v1a) - len("A==")
	return v1a[:last] + string(alphabet[strings.IndexByte(alphabet, v1a[last])|1]) + "=="
}

func maps(to, from http.Header) {
	for k, v := range from {
		to[k] = v
	}
}

func TestRead(t *testing.T) {
	secrets, now := secretsOf(t, vectorSecret), time.Now()
	keys := Keys(secrets)
	request := func(body []byte) *http.Request {
		r := httptest.NewRequest("POST", "/hook", bytes.NewReader(body))
		r.Header = signed(secrets, "evt_1", now, body)
		return r
	}
	body := bytes.Repeat([]byte("a"), 64<<10)
	m, err := Read(request(body), keys, now)
	if err != nil || m.ID != "evt_1" || !bytes.Equal(m.Body, body) {
		t.Errorf("64 KiB: id %q, %d bytes, error %v", m.ID, len(m.Body), err)
	}
	m, err = Read(request(append(body, 'a')), keys, now)
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); !tooLong || m.Body != nil {
		t.Errorf("64 KiB and a byte: %d bytes, error %v", len(m.Body), err)
	}
	r := request([]byte(`{}`))
	r.Body = io.NopCloser(strings.NewReader(`{"forged":true}`))
	if m, err = Read(r, keys, now); err == nil || m.ID != "" || m.Body != nil {
		t.Errorf("forged body: %+v, error %v", m, err)
	}
	r = request([]byte(`{}`))
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{`), brokenReader{}))
	if _, err = Read(r, keys, now); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut body: %v", err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// FuzzVerify holds Verify against a second reading of the specification, for receivers with a
// secret, a public key and both, and then checks that a genuine message with one bit changed
// anywhere is refused.
func FuzzVerify(f *testing.F) {
	symmetric, asymmetric := secretsOf(f, vectorSecret), secretsOf(f, vectorPrivate)
	shared, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(vectorSecret, "whsec_"))
	public, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(vectorPublic, "whpk_"))
	now := time.Unix(vectorTime, 0)
	f.Add(vectorID, strconv.Itoa(vectorTime), vectorSignature, []byte(vectorBody), uint(0))
	f.Add(vectorID, strconv.Itoa(vectorTime), vectorV1a, []byte(vectorBody), uint(0))
	f.Add(vectorID, strconv.Itoa(vectorTime), "v1a,AAAA "+vectorSignature, []byte(vectorBody), uint(400))
	f.Add(vectorID, strconv.Itoa(vectorTime), vectorSignature+" "+vectorV1a, []byte(vectorBody), uint(900))
	f.Add(vectorID, strconv.Itoa(vectorTime), "v1a,"+vectorV1a[3:]+" v1,"+vectorV1a[4:], []byte(vectorBody), uint(500))
	f.Add(vectorID, strconv.Itoa(vectorTime), strings.Repeat(" ", 32)+vectorV1a, []byte(vectorBody), uint(600))
	f.Add(vectorID, "+"+strconv.Itoa(vectorTime), vectorSignature, []byte(vectorBody), uint(7))
	f.Add("a.1614265330", strconv.Itoa(vectorTime), "v1,", []byte("1.x"), uint(9))
	f.Add("", "", "", []byte(nil), uint(1))
	f.Fuzz(func(t *testing.T, id, timestamp, signature string, body []byte, at uint) {
		signed := []byte(id + "." + timestamp + "." + string(body))
		h := hmac.New(sha256.New, shared)
		h.Write(signed)
		want := "v1," + base64.StdEncoding.EncodeToString(h.Sum(nil))
		n, err := strconv.ParseInt(timestamp, 10, 64)
		good := err == nil && strconv.FormatInt(n, 10) == timestamp && n >= vectorTime-300 && n <= vectorTime+300 && validID(id)
		var v1, v1a bool
		for i, s := range strings.Split(signature, " ") {
			if i == 32 {
				break
			}
			v1 = v1 || s == want
			if raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(s, "v1a,")); err == nil && strings.HasPrefix(s, "v1a,") &&
				!strings.ContainsAny(s, "\r\n") {
				v1a = v1a || ed25519.Verify(public, signed, raw)
			}
		}
		sent := http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {timestamp}, "Webhook-Signature": {signature}}
		for _, r := range []struct {
			keys []Key
			ok   bool
		}{{Keys(symmetric), v1}, {Keys(asymmetric), v1a}, {append(Keys(asymmetric), Keys(symmetric)...), v1 || v1a}} {
			if accepted := Verify(sent, body, r.keys, now) == nil; accepted != (r.ok && good) {
				t.Fatalf("accepted: %v, v1: %v, v1a: %v, id and time: %v", accepted, v1, v1a, good)
			}
		}

		if !validID(id) {
			return
		}
		for _, secrets := range [][]Secret{symmetric, asymmetric} {
			parts := [][]byte{[]byte(id), []byte(strconv.Itoa(vectorTime)), []byte(Sign(secrets, id, now, body)), bytes.Clone(body)}
			bit := at % uint(8*len(bytes.Join(parts, nil)))
			for _, p := range parts {
				if bit < uint(8*len(p)) {
					p[bit/8] ^= 1 << (bit % 8)
					break
				}
				bit -= uint(8 * len(p))
			}
			changed := http.Header{"Webhook-Id": {string(parts[0])}, "Webhook-Timestamp": {string(parts[1])}, "Webhook-Signature": {string(parts[2])}}
			if Verify(changed, parts[3], Keys(secrets), now) == nil {
				t.Fatalf("bit %d changed, and still accepted", at)
			}
		}
	})
}
