package jose

import (
	"bytes"
	"encoding/asn1"
	"math/big"
	"testing"
)

// FuzzUnwrap: whatever the standard library reads and writes as a signature becomes the same R and S, and nothing else becomes a signature.
func FuzzUnwrap(f *testing.F) {
	type signature struct{ R, S *big.Int }
	for _, size := range []int{32, 48, 66} {
		largest := new(big.Int).SetBytes(bytes.Repeat([]byte{0xff}, size))
		for _, r := range []*big.Int{big.NewInt(0), big.NewInt(1), big.NewInt(127), big.NewInt(128), largest, new(big.Int).Rsh(largest, 1), new(big.Int).Add(largest, big.NewInt(1)), big.NewInt(-1)} {
			der, err := asn1.Marshal(signature{r, largest})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(der, size)
			f.Add(der[:len(der)-1], size)
			f.Add(append(der, 0), size)
		}
	}
	f.Fuzz(func(t *testing.T, der []byte, size int) {
		if size < 1 || size > 66 {
			return
		}
		var want signature
		rest, err := asn1.Unmarshal(der, &want)
		fits := err == nil && len(rest) == 0 && want.R.Sign() >= 0 && want.S.Sign() >= 0 && want.R.BitLen() <= 8*size && want.S.BitLen() <= 8*size
		if fits {
			again, err := asn1.Marshal(want)
			fits = err == nil && bytes.Equal(again, der)
		}
		got := make([]byte, 2*size)
		ok := unwrap(got, der)
		switch {
		case fits && !ok:
			t.Fatalf("a signature is refused: %x", der)
		case ok && (!fits || !bytes.Equal(got[:size], want.R.FillBytes(make([]byte, size))) || !bytes.Equal(got[size:], want.S.FillBytes(make([]byte, size)))):
			t.Fatalf("%x is read as %x", der, got)
		}
	})
}
