package jose

import (
	"crypto"
	"crypto/sha256"
	"testing"
)

// BenchmarkAssertion against BenchmarkSign, the bare signature: what is left is ours. It is paid at every poll.
func BenchmarkAssertion(b *testing.B) {
	w := loadWorld(b)
	a, err := w.keys.Asserter(w.ClientID, w.Issuer)
	if err != nil {
		b.Fatal(err)
	}
	room := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Append(room, w.Now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	w := loadWorld(b)
	digest := sha256.Sum256([]byte("digest"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.keys.sig[0].private.Sign(nil, digest[:], crypto.SHA256); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen is paid once a step-up.
func BenchmarkOpen(b *testing.B) {
	w := loadWorld(b)
	for name, token := range map[string]string{"singpass": w.jwe(w.jws()), "singpass direct": w.jws()} {
		b.Run(name, func(b *testing.B) {
			o := w.opener(b, name)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.open(o, token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
