package cibatest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwe"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// keyRing holds the keys that sign ID tokens: the last one signs, all are published, the stranger never is.
type keyRing struct {
	mu       sync.RWMutex
	keys     []jwk.Key // private
	stranger jwk.Key
	public   []byte // JWKS
	last     string // the last token handed out
}

// rotate adds a key and makes it sign.
func (k *keyRing) rotate(alg string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	key, err := newSigningKey(alg, fmt.Sprintf("cibatest/sig/%02d", len(k.keys)+1))
	if err != nil {
		return err
	}
	if k.stranger == nil {
		if k.stranger, err = newSigningKey(alg, "cibatest/sig/unpublished"); err != nil {
			return err
		}
	}
	set := jwk.NewSet()
	for _, private := range append(k.keys, key) {
		public, err := private.PublicKey()
		if err != nil {
			return fmt.Errorf("publishing a key: %w", err)
		}
		if err := set.AddKey(public); err != nil {
			return fmt.Errorf("publishing a key: %w", err)
		}
	}
	if k.public, err = json.Marshal(set); err != nil {
		return fmt.Errorf("publishing a key: %w", err)
	}
	k.keys = append(k.keys, key)
	return nil
}

// newSigningKey makes a key with `use` and `kid` but no `alg`, as Singpass publishes them.
func newSigningKey(alg, kid string) (jwk.Key, error) {
	var raw crypto.Signer
	var err error
	switch alg {
	case "ES256":
		raw, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		raw, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		raw, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "PS256", "PS384", "PS512", "RS256", "RS384", "RS512":
		raw, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		return nil, fmt.Errorf("no keys for the signature algorithm %q", alg)
	}
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	key, err := jwk.FromRaw(raw)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return key, errors.Join(key.Set(jwk.KeyIDKey, kid), key.Set(jwk.KeyUsageKey, "sig"))
}

// jwks is what /.well-known/keys publishes.
func (k *keyRing) jwks() []byte {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.public
}

// sign makes a compact JWS. The kinds UnknownKey and BadSignature sign with the stranger.
func (k *keyRing) sign(alg string, payload []byte, kind Kind) (string, error) {
	k.mu.RLock()
	key, kid := k.keys[len(k.keys)-1], k.keys[len(k.keys)-1].KeyID()
	if kind == UnknownKey {
		key, kid = k.stranger, k.stranger.KeyID()
	}
	if kind == BadSignature {
		key = k.stranger
	}
	k.mu.RUnlock()
	var raw any // a bare key, or jwx would put the key's own id into the header
	if err := key.Raw(&raw); err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	head := jws.NewHeaders()
	if err := errors.Join(head.Set(jws.TypeKey, "JWT"), head.Set(jws.KeyIDKey, kid)); err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	token, err := jws.Sign(payload, jws.WithKey(jwa.SignatureAlgorithm(alg), raw, jws.WithProtectedHeaders(head)))
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	return string(token), nil
}

// subjectOf reads the sub of an ID token that this ring signed (CIBA Core §7.1, id_token_hint).
func (k *keyRing) subjectOf(token string) (string, error) {
	set, err := jwk.Parse(k.jwks())
	if err != nil {
		return "", fmt.Errorf("reading own keys: %w", err)
	}
	payload, err := jws.Verify([]byte(token), jws.WithKeySet(set, jws.WithInferAlgorithmFromKey(true)))
	if err != nil {
		return "", fmt.Errorf("verifying the hint: %w", err)
	}
	var claims struct {
		Sub string `json:"sub"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil || claims.Sub == "" {
		return "", errors.New("verifying the hint: no sub")
	}
	return claims.Sub, nil
}

// idToken makes the token for a step: claims, signature, and unless Plain encryption to the client.
func (s *Server) idToken(ctx context.Context, f *flow, step Step) (string, error) {
	if step.Kind == Replay {
		s.ring.mu.RLock()
		defer s.ring.mu.RUnlock()
		if s.ring.last != "" {
			return s.ring.last, nil
		}
		return "", errors.New("replaying: no token was handed out yet")
	}
	subject := f.ask.subject
	if step.Kind == OtherPerson {
		subject = s.anotherSubject(f)
	}
	iat := s.now().Unix()
	claims := map[string]any{
		"iss": s.cfg.Issuer, "aud": f.client, "sub": subject, "iat": iat, "exp": iat + int64((10*time.Minute)/time.Second),
		"amr": []string{"pwd", "swk"},
	}
	if f.ask.acr != "" {
		claims["acr"] = f.ask.acr
	}
	if step.Claims != nil {
		step.Claims(claims)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encoding claims: %w", err)
	}
	token, err := s.ring.sign(s.cfg.Algs.Signing, payload, step.Kind)
	if err != nil {
		return "", err
	}
	if !s.cfg.Plain {
		if token, err = s.encrypt(ctx, token); err != nil {
			return "", err
		}
	}
	s.ring.mu.Lock()
	s.ring.last = token
	s.ring.mu.Unlock()
	return token, nil
}

func (s *Server) anotherSubject(f *flow) string {
	if s.cfg.Standard {
		return "somebody-else-than-" + f.id
	}
	return singpassSubject(somebodyElse(f.ask.hint), !s.cfg.Plain && !s.cfg.OmitNRIC)
}

// encrypt wraps a signed token to the first encryption key that the client publishes, with that key's alg.
func (s *Server) encrypt(ctx context.Context, signed string) (string, error) {
	key, err := s.clients.encryptionKey(ctx)
	if err != nil {
		return "", err
	}
	alg := key.Algorithm().String()
	if s.cfg.Algs.KeyManagement != "" {
		alg = s.cfg.Algs.KeyManagement
	}
	head := jwe.NewHeaders()
	if err := errors.Join(head.Set(jwe.ContentTypeKey, "JWT"), head.Set(jwe.TypeKey, "JWT"), head.Set(jwe.KeyIDKey, key.KeyID())); err != nil {
		return "", fmt.Errorf("encrypting: %w", err)
	}
	var raw any
	if err := key.Raw(&raw); err != nil {
		return "", fmt.Errorf("encrypting: %w", err)
	}
	token, err := jwe.Encrypt([]byte(signed), jwe.WithKey(jwa.KeyEncryptionAlgorithm(alg), raw),
		jwe.WithContentEncryption(jwa.ContentEncryptionAlgorithm(s.cfg.Algs.Content)), jwe.WithProtectedHeaders(head))
	if err != nil {
		return "", fmt.Errorf("encrypting: %w", err)
	}
	return string(token), nil
}
