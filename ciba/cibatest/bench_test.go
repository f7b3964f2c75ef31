package cibatest

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwa"
)

// BenchmarkPoll is what one pending poll costs the provider apart from net/http.
func BenchmarkPoll(b *testing.B) {
	for name, trust := range map[string]bool{"verified": false, "trusted": true} {
		b.Run(name, func(b *testing.B) {
			t := &testing.T{}
			c := start(t, func(c *Config) { c.Detail, c.TrustAssertions = false, trust })
			c.t = t
			id := c.ask(HintFor(1, 0xffff, 1))
			bodies := make([]string, b.N)
			for i := range bodies {
				form := url.Values{"grant_type": {grantCIBA}, "auth_req_id": {id}, "client_assertion_type": {assertionType},
					"client_assertion": {signed(b, jwa.ES256, c.sig, c.sig.KeyID(), "JWT", goodClaims())}}
				bodies[i] = form.Encode()
			}
			b.ReportAllocs()
			b.ResetTimer()
			for _, body := range bodies {
				req := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(body))
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				rec := httptest.NewRecorder()
				c.s.ServeHTTP(rec, req)
				if rec.Code != 400 || c.s.tally.Load().refused.Load() > 0 {
					b.Fatalf("status %d: %s", rec.Code, rec.Body)
				}
			}
		})
	}
}
