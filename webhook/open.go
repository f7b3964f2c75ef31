package webhook

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
)

// PrivateKey is a receiver's key, which opens content that was encrypted to its public half.
// It prints as "[redacted]". The zero value opens nothing.
type PrivateKey struct {
	hidden // the scalar, as long as a coordinate of its curve
	kid    string
	crv    string
}

// KeyID is the kid of the key.
func (k PrivateKey) KeyID() string { return k.kid }

// ParsePrivateKeys reads a receiver's private JSON Web Key Set of at most 64 KiB, as
// `stepup keygen --webhook FILE --kind encryption` writes it: EC keys on P-256, P-384 or P-521,
// each with its private part and a kid of its own, `use` absent or enc, `alg` absent or
// ECDH-ES+A256KW. Keys for other purposes are passed over. During a rotation both keys stand
// in it. The error joins every mistake; each names its key by position and never shows it.
func ParsePrivateKeys(jwks []byte) ([]PrivateKey, error) {
	set, err := readKeySet(jwks)
	if err != nil {
		return nil, err
	}
	found, err := set.usable()
	wrong := []error{err}
	var all []PrivateKey
	for _, k := range found {
		private, err := k.private()
		if err != nil {
			wrong = append(wrong, fmt.Errorf("key %d: %w", k.position, err))
		}
		all = append(all, private)
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("no key that opens encrypted content; `stepup keygen --webhook FILE --kind encryption` makes one")
	}
	return all, nil
}

// private reads the private half of a key, which must be that of its public half.
func (k usable) private() (PrivateKey, error) {
	if _, there := k.members["d"]; !there {
		return PrivateKey{}, errors.New("has no private part d; this looks like the public key set, so name the private one")
	}
	crv := k.public.Curve.Params().Name
	d, err := coordinate(k.members, "d", curves[crv].size)
	if err != nil {
		return PrivateKey{}, err
	}
	private, err := ecdsa.ParseRawPrivateKey(k.public.Curve, d)
	if err != nil || !private.PublicKey.Equal(k.public) {
		return PrivateKey{}, errors.New("d does not belong to x and y; copy the key again")
	}
	return PrivateKey{hidden{func() []byte { return d }}, k.kid, crv}, nil
}

// UnknownKeyError says that content is encrypted to a key that is not among those given.
type UnknownKeyError struct{ KeyID string }

func (e *UnknownKeyError) Error() string {
	return fmt.Sprintf("opening webhook: encrypted to key %q, which is not among the keys given", e.KeyID)
}

// Open gives a receiver the event inside a body that [Verify] or [Read] has accepted: the
// bytes that a webhook with `content: full` would have had. A body without encrypted content
// comes back as it is, so a receiver may call it for every event. What was encrypted must say
// the same as the body around it of what kind of event it is, of which step-up, and how that
// ended. A key that is not there is an [*UnknownKeyError]; answer other than 2xx then, and the
// event comes again. Anything of the event is returned only if all of it held.
//
// Encryption alone proves nothing of the sender: anybody has the public key. The signature does.
func Open(body []byte, keys []PrivateKey) ([]byte, error) {
	if len(body) > maxMessage {
		return nil, errors.New("opening webhook: longer than 64 KiB")
	}
	outside, err := object(body)
	if err != nil {
		return nil, fmt.Errorf("opening webhook: the body %w", err)
	}
	data, _ := outside["data"].(map[string]any)
	sealed, there := data["encrypted"]
	if !there {
		return body, nil
	}
	token, ok := sealed.(string)
	if !ok {
		return nil, errors.New("opening webhook: data.encrypted is not text")
	}
	plain, err := decrypt(token, keys)
	if err != nil {
		return nil, err
	}
	inside, err := object(plain)
	if err != nil {
		return nil, fmt.Errorf("opening webhook: what was encrypted %w", err)
	}
	if err := alike(outside, inside); err != nil {
		return nil, err
	}
	return plain, nil
}

// alike refuses content of another event, which a mistake at the sender might put there.
func alike(outside, inside map[string]any) error {
	out, outOK := outside["data"].(map[string]any)
	in, inOK := inside["data"].(map[string]any)
	if _, again := in["encrypted"]; !outOK || !inOK || again {
		return errors.New("opening webhook: what was encrypted is not an event")
	}
	same := func(name string, a, b any) error {
		x, isText := a.(string)
		y, alsoText := b.(string)
		if (a != nil || b != nil) && (!isText || !alsoText || x != y) {
			return fmt.Errorf("opening webhook: %s is not the same inside as outside", name)
		}
		return nil
	}
	return errors.Join(
		same("type", outside["type"], inside["type"]),
		same("data.id", out["id"], in["id"]),
		same("data.status", out["status"], in["status"]),
	)
}
