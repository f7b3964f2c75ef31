package cibatest

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// discovery is Singpass's document with this issuer's URLs.
func (s *Server) discovery(w http.ResponseWriter, _ *http.Request) {
	keyManagement := []string{"ECDH-ES+A256KW", "ECDH-ES+A192KW", "ECDH-ES+A128KW"}
	if s.cfg.Algs.KeyManagement != "" {
		keyManagement = []string{s.cfg.Algs.KeyManagement}
	}
	url := func(path string) string { return s.cfg.Issuer + path }
	doc, _ := json.MarshalIndent(struct {
		Issuer        string   `json:"issuer"`
		Authorization string   `json:"authorization_endpoint"`
		JWKS          string   `json:"jwks_uri"`
		ResponseTypes []string `json:"response_types_supported"`
		Scopes        []string `json:"scopes_supported"`
		SubjectTypes  []string `json:"subject_types_supported"`
		Claims        []string `json:"claims_supported"`
		Grants        []string `json:"grant_types_supported"`
		Token         string   `json:"token_endpoint"`
		AuthMethods   []string `json:"token_endpoint_auth_methods_supported"`
		AssertionAlgs []string `json:"token_endpoint_auth_signing_alg_values_supported"`
		SigningAlgs   []string `json:"id_token_signing_alg_values_supported"`
		KeyManagement []string `json:"id_token_encryption_alg_values_supported"`
		Content       []string `json:"id_token_encryption_enc_values_supported"`
		Backchannel   string   `json:"backchannel_authentication_endpoint"`
		DeliveryModes []string `json:"backchannel_token_delivery_modes_supported"`
		Userinfo      string   `json:"userinfo_endpoint"`
	}{
		s.cfg.Issuer, url("/auth"), url("/.well-known/keys"), []string{"code"}, []string{"openid"}, []string{"public"},
		[]string{"nonce", "aud", "iss", "sub", "exp", "iat"}, []string{"authorization_code", grantCIBA}, url("/token"),
		[]string{"private_key_jwt"}, []string{"ES256", "ES384", "ES512"}, []string{s.cfg.Algs.Signing}, keyManagement,
		[]string{s.cfg.Algs.Content}, url("/bc-auth"), []string{"poll"}, url("/userinfo"),
	}, "", "  ")
	publish(w, doc)
}

func (s *Server) keys(w http.ResponseWriter, _ *http.Request) { publish(w, s.ring.jwks()) }

// publish sends a document that clients must cache rather than fetch for each operation.
func publish(w http.ResponseWriter, doc []byte) {
	h := w.Header()
	h.Set("Cache-Control", "max-age=21600, must-revalidate, no-transform, public")
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(doc)))
	_, _ = w.Write(doc)
}
