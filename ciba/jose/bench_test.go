package jose

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"testing"
)

// BenchmarkAssertion against BenchmarkSign, the bare signature: what is left is ours. It is paid at every poll.
func BenchmarkAssertion(b *testing.B) {
	w := loadWorld(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.keys.Assertion(w.ClientID, w.Issuer, w.Now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	w := loadWorld(b)
	digest := sha256.Sum256([]byte("digest"))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ecdsa.Sign(rand.Reader, w.keys.sig[0].private, digest[:]); err != nil {
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
