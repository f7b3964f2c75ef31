package ciba

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// fields are the names that Check objects to, in order, each once.
func fields(errs []FieldError) string {
	var names []string
	for _, e := range errs {
		if !slices.Contains(names, e.Field) {
			names = append(names, e.Field)
		}
	}
	return strings.Join(names, " ")
}

// What Singpass documents: scope=openid and one kind of hint.
func TestCheckSingpass(t *testing.T) {
	encrypted := newClient(t, singpassConfig("http://op.example"))
	cfg := singpassConfig("http://op.example")
	cfg.Encrypted = false
	direct := newClient(t, cfg)
	cfg = singpassConfig("http://op.example")
	cfg.NRICChecksum = false
	lenient := newClient(t, cfg)

	hint := func(s string) Request { return Request{LoginHint: s} }
	for _, row := range []struct {
		name string
		c    *Client
		r    Request
		want string
	}{
		{"citizen", encrypted, hint("S1234567D"), ""},
		{"citizen since 2000", encrypted, hint("T1234567J"), ""},
		{"foreigner", encrypted, hint("F1234567N"), ""},
		{"foreigner since 2000", encrypted, hint("G1234567X"), ""},
		{"foreigner since 2022", encrypted, hint("M1234567K"), ""},
		{"MockPass's person", encrypted, hint("S9812381D"), ""},
		{"foreign user of the pages", encrypted, hint("Y4581892I"), ""},
		{"UUID", encrypted, hint(canaryUUID), ""},
		{"UUID, signed-only tokens", direct, hint(canaryUUID), ""},
		{"with scope", encrypted, Request{Scope: "openid", LoginHint: canaryUUID}, ""},
		{"wrong letter, checks off", lenient, hint("S1234567A"), ""},

		{"wrong letter", encrypted, hint("S1234567A"), "login_hint"},
		{"right letter of another series", encrypted, hint("T1234567D"), "login_hint"},
		{"NRIC, signed-only tokens", direct, hint("S1234567D"), "login_hint"},
		{"no hint", encrypted, Request{}, "login_hint"},
		{"lower case NRIC", encrypted, hint("s1234567d"), "login_hint"},
		{"lower case letter", lenient, hint("S1234567d"), "login_hint"},
		{"full-width digits", lenient, hint("S１２３４５６７D"), "login_hint"},
		{"Arabic digit", lenient, hint("S123456٧D"), "login_hint"},
		{"unknown series", lenient, hint("A1234567D"), "login_hint"},
		{"blank before", lenient, hint(" S1234567D"), "login_hint"},
		{"line end after", lenient, hint("S1234567D\n"), "login_hint"},
		{"upper case UUID", encrypted, hint(strings.ToUpper(canaryUUID)), "login_hint"},
		{"UUID in braces", encrypted, hint("{" + canaryUUID + "}"), "login_hint"},
		{"UUID without hyphens", encrypted, hint(strings.ReplaceAll(canaryUUID, "-", "")), "login_hint"},
		{"UUID with other dashes", encrypted, hint(strings.ReplaceAll(canaryUUID, "-", "–")), "login_hint"},
		{"subject list", encrypted, hint("u=" + canaryUUID), "login_hint"},
		{"other scope", encrypted, Request{Scope: "openid profile", LoginHint: canaryUUID}, "scope"},
		{"everything undocumented", encrypted, Request{LoginHint: canaryUUID, LoginHintToken: "x", IDTokenHint: "x", BindingMessage: "x", ACRValues: "x",
			UserCode: "x", RequestedExpiry: 1}, "login_hint_token id_token_hint binding_message acr_values user_code requested_expiry"},
	} {
		t.Run(row.name, func(t *testing.T) {
			errs := row.c.Check(row.r)
			if got := fields(errs); got != row.want {
				t.Errorf("refused %q, want %q", got, row.want)
			}
			for _, e := range errs {
				if row.r.LoginHint != "" && strings.Contains(e.Message, row.r.LoginHint) {
					t.Errorf("message repeats the hint")
				}
			}
		})
	}
}

func TestCheckStandard(t *testing.T) {
	cfg := singpassConfig("https://op.example")
	cfg.Profile = Standard
	c := newClient(t, cfg)
	key := newSigner(t, "k")
	hinting := func(claims map[string]any) Request { return Request{IDTokenHint: key.sign(t, claims)} }
	for _, row := range []struct {
		name string
		r    Request
		want string
	}{
		{"login_hint", Request{LoginHint: "jo@bank.example"}, ""},
		{"login_hint_token", Request{LoginHintToken: "a.b.c"}, ""},
		{"id_token_hint", hinting(map[string]any{"iss": "https://op.example", "sub": "jo"}), ""},
		{"everything", Request{Scope: "openid profile", LoginHint: "jo", BindingMessage: "W4 – 你好", ACRValues: "a b", UserCode: "1 2", RequestedExpiry: 3600}, ""},
		{"nothing", Request{}, "login_hint"},
		{"two hints", Request{LoginHint: "jo", LoginHintToken: "x"}, "login_hint"},
		{"scope without openid", Request{Scope: "profile openidx", LoginHint: "jo"}, "scope"},
		{"scope with a line end", Request{Scope: "openid\n", LoginHint: "jo"}, "scope"},
		{"scope with a quote", Request{Scope: `openid "`, LoginHint: "jo"}, "scope"},
		{"control character", Request{LoginHint: "jo\x00"}, "login_hint"},
		{"broken UTF-8", Request{LoginHint: "jo\xff"}, "login_hint"},
		{"message that runs backwards", Request{LoginHint: "jo", BindingMessage: "pay \u202e001"}, "binding_message"},
		{"message of two lines", Request{LoginHint: "jo", BindingMessage: "a\nb"}, "binding_message"},
		{"long message", Request{LoginHint: "jo", BindingMessage: strings.Repeat("x", 1025)}, "binding_message"},
		{"blank acr_values", Request{LoginHint: "jo", ACRValues: " "}, "acr_values"},
		{"negative expiry", Request{LoginHint: "jo", RequestedExpiry: -1}, "requested_expiry"},
		{"expiry beyond what we would believe", Request{LoginHint: "jo", RequestedExpiry: 3601}, "requested_expiry"},
		{"id_token_hint of another provider", hinting(map[string]any{"iss": "https://other.example", "sub": "jo"}), "id_token_hint"},
		{"id_token_hint without sub", hinting(map[string]any{"iss": "https://op.example"}), "id_token_hint"},
		{"id_token_hint with a number for sub", hinting(map[string]any{"iss": "https://op.example", "sub": 1}), "id_token_hint"},
		{"id_token_hint that is encrypted", Request{IDTokenHint: "a.b.c.d.e"}, "id_token_hint"},
		{"id_token_hint that is nothing", Request{IDTokenHint: "x"}, "id_token_hint"},
		{"id_token_hint of 9 KB", Request{IDTokenHint: "x." + strings.Repeat("x", 9<<10) + ".x"}, "id_token_hint"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := fields(c.Check(row.r)); got != row.want {
				t.Errorf("refused %q, want %q", got, row.want)
			}
		})
	}
}

// What Check refuses is not sent, not even half of it.
func TestRefusedRequestIsNotSent(t *testing.T) {
	s := provider(t, map[string]http.HandlerFunc{"/": func(http.ResponseWriter, *http.Request) { t.Error("something was sent") }})
	_, err := newClient(t, singpassConfig(s.URL)).Authenticate(t.Context(), Request{LoginHint: canaryNRIC, BindingMessage: "CANARY"})
	if e, ok := errors.AsType[*Refusal](err); !ok || e.Code != "invalid_request" || e.Status != 0 {
		t.Errorf("got %v", err)
	}
	tellsNothing(t, err)
}

func TestPersonalDataDoesNotPrint(t *testing.T) {
	sub := canaryNRIC
	for _, v := range []any{
		Request{LoginHint: canaryNRIC}, &Request{LoginHint: canaryNRIC}, Expect{Request: Request{LoginHint: canaryNRIC}}, Ack{AuthReqID: canaryID},
		Identity{Subject: sub, NRIC: &sub, IDToken: canaryToken}, &Identity{Subject: sub},
		Unverified{IDToken: canaryToken, Err: errBroken}, []any{Request{LoginHint: canaryNRIC}},
	} {
		var log strings.Builder
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", "v", v)
		if _, list := v.([]any); !list { // slog's JSON marshals what stands in a list, and json.Marshal must tell
			slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "v", v)
		}
		tellsNothing(t, fmt.Errorf("%v %+v %#v %s %q %x %s", v, v, v, v, v, v, &log))
	}
	stored, err := json.Marshal(Request{LoginHint: canaryNRIC, RequestedExpiry: 5})
	if want := `{"login_hint":"` + canaryNRIC + `","requested_expiry":5}`; err != nil || string(stored) != want {
		t.Errorf("stored as %s, %v; want %s", stored, err, want)
	}
}

// referenceHint is the rule a second time, written another way: by pattern, and by the remainder's complement.
func referenceHint(s string) bool {
	if regexp.MustCompile(`\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\z`).MatchString(s) {
		return true
	}
	m := regexp.MustCompile(`\A([STFGMY])([0-9]{7})([A-Z])\z`).FindStringSubmatch(s)
	if m == nil || m[1] == "Y" {
		return m != nil
	}
	n, _ := strconv.Atoi(m[2])
	sum := map[string]int{"S": 0, "F": 0, "T": 4, "G": 4, "M": 3}[m[1]]
	for _, weight := range []int{2, 3, 4, 5, 6, 7, 2} { // from the last digit
		sum += n % 10 * weight
		n /= 10
	}
	letters := map[string]string{"S": "ABCDEFGHIZJ", "T": "ABCDEFGHIZJ", "F": "KLMNPQRTUWX", "G": "KLMNPQRTUWX", "M": "KLJNPQRTUWX"}[m[1]]
	return string(letters[11-sum%11-1]) == m[3]
}

func FuzzLoginHint(f *testing.F) {
	for _, s := range []string{"S1234567D", "T1234567J", "F1234567N", "G1234567X", "M1234567K", "Y4581892I", "S1234567A", "s1234567d", "S１２３４５６７D", canaryUUID, ""} {
		f.Add(s)
	}
	cfg := singpassConfig("http://op.example")
	c, err := New(cfg)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		try := func(s string) {
			if got, want := len(c.Check(Request{LoginHint: s})) == 0, referenceHint(s); got != want {
				t.Errorf("%q accepted: %v, by the reference: %v", s, got, want)
			}
		}
		try(s)
		if len(s) == 9 { // the fuzzer alone seldom finds a right letter
			for letter := 'A'; letter <= 'Z'; letter++ {
				for _, series := range "STFGMY" {
					try(string(series) + s[1:8] + string(letter))
				}
			}
		}
	})
}
