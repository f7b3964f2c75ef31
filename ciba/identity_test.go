package ciba

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"stepup/ciba/jose"
)

// published is a provider whose key set can be swapped; it counts the fetches.
type published struct {
	keys    atomic.Pointer[string] // nil: 500
	fetches atomic.Int32
}

func (p *published) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	p.fetches.Add(1)
	if jwks := p.keys.Load(); jwks != nil {
		fmt.Fprint(w, *jwks)
		return
	}
	w.WriteHeader(500)
}

func (p *published) publish(s *signer) { jwks := s.jwks(); p.keys.Store(&jwks) }

func good(issuer string, more map[string]any) map[string]any {
	now := time.Now().Unix()
	claims := map[string]any{"iss": issuer, "aud": "client", "sub": "u=" + canaryUUID, "iat": now, "exp": now + 600, "amr": []string{"pwd", "swk"}}
	maps.Copy(claims, more)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

// Binding the token to the question: whose token is it, and is that who was asked?
func TestBinding(t *testing.T) {
	key := newSigner(t, "sig/2026 01")
	var set published
	set.publish(key)
	s := provider(t, map[string]http.HandlerFunc{"/keys": set.ServeHTTP})

	direct := singpassConfig(s.URL)
	direct.Encrypted = false
	standard := direct
	standard.Profile = Standard
	bound := standard
	bound.Bind = true

	const another = "11111111-2222-4333-8444-555555555555"
	hinted := func(sub, iss string) Request {
		return Request{IDTokenHint: newSigner(t, "theirs").sign(t, map[string]any{"iss": iss, "sub": sub})}
	}
	yes, no := &Untrusted{}, &Untrusted{Mismatch: true}
	for _, row := range []struct {
		name   string
		cfg    Config
		r      Request
		claims map[string]any
		bound  bool
		want   *Untrusted // nil: accepted; by Mismatch
	}{
		{"UUID asked, same answers", direct, Request{LoginHint: canaryUUID}, nil, true, nil},
		{"UUID asked, more is told", direct, Request{LoginHint: canaryUUID}, map[string]any{"sub": "s=S1234567D,u=" + canaryUUID + ",x=y"}, true, nil},
		{"UUID asked, another answers", direct, Request{LoginHint: canaryUUID}, map[string]any{"sub": "u=" + another}, false, no},
		{"UUID asked, stands in another place", direct, Request{LoginHint: canaryUUID}, map[string]any{"sub": "s=" + canaryUUID + ",u=" + another}, false, no},
		{"UUID asked, only an NRIC answers", direct, Request{LoginHint: canaryUUID}, map[string]any{"sub": "s=" + canaryNRIC}, false, yes},
		{"NRIC asked, same answers", direct, Request{LoginHint: canaryNRIC}, map[string]any{"sub": "s=" + canaryNRIC + ",u=" + canaryUUID}, true, nil},
		{"NRIC asked, another answers", direct, Request{LoginHint: canaryNRIC}, map[string]any{"sub": "s=S1234567D,u=" + canaryUUID}, false, no},
		{"NRIC asked, only a UUID answers", direct, Request{LoginHint: canaryNRIC}, nil, false, yes},
		{"sub is a bare UUID", direct, Request{LoginHint: canaryUUID}, map[string]any{"sub": canaryUUID}, false, yes},
		{"sub names somebody twice", direct, Request{LoginHint: canaryUUID}, map[string]any{"sub": "u=" + canaryUUID + ",u=" + another}, false, yes},

		{"hint is not the subject's name", standard, Request{LoginHint: "jo"}, map[string]any{"sub": "4711"}, false, nil},
		{"bind: subject, same", bound, Request{LoginHint: "4711"}, map[string]any{"sub": "4711"}, true, nil},
		{"bind: subject, another", bound, Request{LoginHint: "4711"}, map[string]any{"sub": "4712"}, false, no},
		{"bind: subject, longer", bound, Request{LoginHint: "4711"}, map[string]any{"sub": "47111"}, false, no},
		{"login_hint_token cannot be compared", bound, Request{LoginHintToken: "x"}, map[string]any{"sub": "4711"}, false, nil},
		{"id_token_hint, same", standard, hinted("4711", s.URL), map[string]any{"sub": "4711"}, true, nil},
		{"id_token_hint, another sub", standard, hinted("4711", s.URL), map[string]any{"sub": "4712"}, false, no},
		{"id_token_hint, another iss", standard, hinted("4711", "https://other.example"), map[string]any{"sub": "4711"}, false, yes},
		{"acr asked and given", standard, Request{LoginHint: "jo", ACRValues: "loa2 loa3"}, map[string]any{"acr": "loa3"}, false, nil},
		{"acr asked, another given", standard, Request{LoginHint: "jo", ACRValues: "loa2 loa3"}, map[string]any{"acr": "loa1"}, false, no},
		{"acr asked, half of one given", standard, Request{LoginHint: "jo", ACRValues: "loa2 loa3"}, map[string]any{"acr": "loa"}, false, no},
		{"acr asked, two given in one", standard, Request{LoginHint: "jo", ACRValues: "loa2 loa3"}, map[string]any{"acr": "loa2 loa3"}, false, no},
		{"acr asked, none given", standard, Request{LoginHint: "jo", ACRValues: "loa2"}, nil, false, no},

		{"another audience", direct, Request{LoginHint: canaryUUID}, map[string]any{"aud": "somebody"}, false, yes},
		{"another issuer", direct, Request{LoginHint: canaryUUID}, map[string]any{"iss": "https://other.example"}, false, yes},
		{"issued before it was asked for", direct, Request{LoginHint: canaryUUID}, map[string]any{"iat": time.Now().Add(-5 * time.Minute).Unix()}, false, yes},
		{"issued 55 s before, by their clock", direct, Request{LoginHint: canaryUUID}, map[string]any{"iat": time.Now().Add(-55 * time.Second).Unix()}, true, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := newClient(t, row.cfg)
			if err := c.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			claims := good(s.URL, row.claims)
			id, err := c.Open(key.sign(t, claims), Expect{Request: row.r, Created: time.Now(), Received: time.Now()})
			if row.want == nil {
				if err != nil || id.Bound != row.bound || id.Subject != claims["sub"] {
					t.Fatalf("%v, bound %v", err, id.Bound)
				}
				return
			}
			e, ok := errors.AsType[*Untrusted](err)
			if !ok || e.Mismatch != row.want.Mismatch || e.Reason == "" {
				t.Fatalf("got %v, want *Untrusted with mismatch %v", err, row.want.Mismatch)
			}
			tellsNothing(t, err)
			if id.Subject != "" || id.Claims != nil {
				t.Error("an identity beside an error")
			}
		})
	}
}

func TestIdentity(t *testing.T) {
	key := newSigner(t, "k")
	var set published
	set.publish(key)
	s := provider(t, map[string]http.HandlerFunc{"/keys": set.ServeHTTP})
	cfg := singpassConfig(s.URL)
	cfg.Encrypted = false
	now := time.Now().Truncate(time.Second).UTC()
	claims := good(s.URL, map[string]any{"sub": "s=Y4581892I,u=" + canaryUUID + ",fid=G730Z-H5P96,coi=DE", "acr": "loa3", "auth_time": now.Unix(), "iat": now.Unix(), "exp": now.Unix() + 600, "x": "y"})
	token := key.sign(t, claims)
	for _, evidence := range []bool{false, true} {
		cfg.Evidence = evidence
		c := newClient(t, cfg)
		if err := c.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		id, err := c.Open(token, Expect{Request: Request{LoginHint: canaryUUID}, Created: now, Received: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if id.Fingerprint == [32]byte{} {
			t.Error("no fingerprint")
		}
		got, err := json.Marshal(id)
		if err != nil {
			t.Fatal(err)
		}
		at := now.Format(time.RFC3339)
		all, _ := json.Marshal(claims)
		want := fmt.Sprintf(`{"subject":%q,"bound":true,"nric":"Y4581892I","uuid":%q,"foreign_id":"G730Z-H5P96","country":"DE","acr":"loa3","amr":["pwd","swk"],`+
			`"auth_time":%q,"issued_at":%q,"claims":%s`, claims["sub"], canaryUUID, at, at, all)
		if evidence {
			want += fmt.Sprintf(`,"id_token":%q`, token)
		}
		if want += "}"; string(got) != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}

	c := newClient(t, cfg)
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	id, err := c.Open(key.sign(t, good(s.URL, map[string]any{"amr": nil})), Expect{Request: Request{LoginHint: canaryUUID}, Created: now, Received: time.Now()})
	if err != nil || id.NRIC != nil || id.ForeignID != nil || id.Country != nil || id.AuthTime != nil || id.AMR == nil || len(id.AMR) != 0 {
		t.Errorf("what the token does not say must be absent (%v)", err)
	}
}

// A token signed with a key that we have not seen waits for a new key set, and is refused only when that has not helped.
func TestUnverifiedUntilKeysAreThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, next := newSigner(t, "old"), newSigner(t, "new")
		var set published
		set.publish(old)
		network := newPipes()
		mux := http.NewServeMux()
		mux.HandleFunc("/.well-known/openid-configuration", metadata("http://op.example"))
		mux.Handle("/keys", &set)
		server := &http.Server{Handler: mux}
		go server.Serve(network)
		defer server.Close()
		cfg := singpassConfig("http://op.example")
		cfg.Encrypted = false
		transport := &http.Transport{DialContext: network.dial, DisableKeepAlives: true}
		cfg.HTTP = &http.Client{Transport: transport}
		c, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		after := func(d time.Duration) {
			<-time.After(d)
			synctest.Wait()
		}
		after(5 * time.Minute)

		token := next.sign(t, good("http://op.example", nil))
		expect := Expect{Request: Request{LoginHint: canaryUUID}, Created: time.Now(), Received: time.Now()}
		open := func() error { _, err := c.Open(token, expect); return err }

		err = open()
		if e, ok := errors.AsType[*Unverified](err); !ok || e.IDToken != token || !errors.Is(err, jose.ErrKeys) {
			t.Fatalf("got %v, want *Unverified with the token", err)
		}
		set.keys.Store(nil)
		if err := c.RefreshKeys(t.Context(), expect.Received); err == nil {
			t.Fatal("refreshed from a provider that is down")
		}
		if err := open(); !isA[*Unverified](err) {
			t.Fatalf("provider down: got %v, want *Unverified", err)
		}
		set.publish(next)
		if err := c.RefreshKeys(t.Context(), expect.Received); !errors.Is(err, jose.ErrTooSoon) {
			t.Fatalf("got %v, want ErrTooSoon", err)
		}
		after(31 * time.Second)
		if err := c.RefreshKeys(t.Context(), expect.Received); err != nil {
			t.Fatal(err)
		}
		if err := open(); err != nil {
			t.Fatal(err)
		}
		if token = old.sign(t, good("http://op.example", nil)); !isA[*Untrusted](open()) {
			t.Errorf("got %v, want *Untrusted: the key set is newer than the answer", open())
		}

		// With a zero time, nothing is fetched within the hour.
		fetches := set.fetches.Load()
		for range 3 {
			if err := c.RefreshKeys(t.Context(), time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
		if got := set.fetches.Load(); got != fetches {
			t.Errorf("%d fetches within the hour", got-fetches)
		}
		after(61 * time.Minute)
		if err := c.RefreshKeys(t.Context(), time.Time{}); err != nil || set.fetches.Load() != fetches+1 {
			t.Errorf("after an hour: %v, %d fetches", err, set.fetches.Load()-fetches)
		}
	})
}
