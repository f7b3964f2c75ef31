package jose

import (
	"bytes"
	"compress/flate"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
)

// What a liar would write: JWS and JWE by hand, with any header. An implementation of its own, so that a mistake shared with the code under test shows.

// sign makes a compact JWS with exactly this header and payload. The algorithm is the key's, whatever the header says.
func sign(key crypto.Signer, header, payload string) string {
	input := encode([]byte(header)) + "." + encode([]byte(payload))
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		c := curves[k.Curve.Params().Name]
		r, s, err := ecdsa.Sign(rand.Reader, k, sum(hashes[c.alg], input))
		check(err)
		sig := append(r.FillBytes(make([]byte, c.size)), s.FillBytes(make([]byte, c.size))...)
		return input + "." + encode(sig)
	case *rsa.PrivateKey:
		digest := sum(crypto.SHA256, input)
		var sig []byte
		var err error
		if strings.Contains(header, "PS256") {
			sig, err = rsa.SignPSS(rand.Reader, k, crypto.SHA256, digest, &rsa.PSSOptions{SaltLength: 32})
		} else {
			sig, err = rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, digest)
		}
		check(err)
		return input + "." + encode(sig)
	}
	panic("no such key")
}

func sum(h crypto.Hash, s string) []byte {
	w := h.New()
	w.Write([]byte(s))
	return w.Sum(nil)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// envelope is a JWE to be made: what is empty is filled in honestly.
type envelope struct {
	to       *decrypter
	alg, enc string // honest: the key's, A256CBC-HS512
	kid      string // honest: the key's; "-" for none
	epk      string // the JSON of another epk; "-" for none
	more     string // members to add to the header, with a comma before
	header   string // the whole header, %s where epk goes
	apu, apv string
	zip      bool
	cek      string // RSA: the algorithm whose content key and encryption are used, whatever the header says
}

// seal encrypts with ECDH-ES and AES key wrap (RFC 7518 §4.6, RFC 3394), or RSA-OAEP-256 (§4.3), and the content algorithm.
func (e envelope) seal(plain string) string {
	alg, enc, kid := or(e.alg, e.to.jwk.Alg), or(e.enc, "A256CBC-HS512"), or(e.kid, e.to.jwk.Kid)
	epk, wrapping := "-", func(cek []byte) []byte {
		b, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &e.to.rsa.PublicKey, cek, nil)
		check(err)
		return b
	}
	if e.to.ec != nil {
		epk, wrapping = e.agreement()
	}
	epk = or(e.epk, epk)
	header := e.header
	if header == "" {
		header = fmt.Sprintf(`{"alg":"%s","enc":"%s"`, alg, enc)
		if kid != "-" {
			header += fmt.Sprintf(`,"kid":"%s"`, kid)
		}
		if epk != "-" {
			header += `,"epk":%s`
		}
		if e.apu != "" {
			header += fmt.Sprintf(`,"apu":"%s","apv":"%s"`, encode([]byte(e.apu)), encode([]byte(e.apv)))
		}
		header += e.more + "}"
	}
	protected := encode([]byte(strings.Replace(header, "%s", epk, 1)))
	body := []byte(plain)
	if e.zip {
		var b bytes.Buffer
		w, err := flate.NewWriter(&b, 9)
		check(err)
		w.Write(body)
		check(w.Close())
		body = b.Bytes()
	}
	z, known := contents[or(e.cek, enc)]
	if !known {
		z = contents["A256CBC-HS512"]
	}
	cek := make([]byte, z.cek)
	rand.Read(cek)
	iv := make([]byte, z.iv)
	rand.Read(iv)
	wrapped := wrapping(cek)
	text, tag := encrypt(z, cek, iv, body, protected)
	return strings.Join([]string{protected, encode(wrapped), encode(iv), encode(text), encode(tag)}, ".")
}

// agreement makes an ephemeral key and what wraps a content key with it.
func (e envelope) agreement() (epk string, wrapping func(cek []byte) []byte) {
	theirs, err := e.to.ec.PublicKey.ECDH()
	check(err)
	mine, err := theirs.Curve().GenerateKey(rand.Reader)
	check(err)
	point := mine.PublicKey().Bytes()
	size := len(point) / 2
	epk = fmt.Sprintf(`{"kty":"EC","crv":"%s","x":"%s","y":"%s"}`, e.to.jwk.Crv, encode(point[1:1+size]), encode(point[1+size:]))
	return epk, func(cek []byte) []byte { return wrap(agree(mine, theirs, e.to.jwk.Alg, e.apu, e.apv), cek) }
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// agree is ECDH and the Concat KDF (NIST SP 800-56A §5.8.1 as in RFC 7518 §4.6.2); one round of SHA-256 is enough for all our wraps.
func agree(mine *ecdh.PrivateKey, theirs *ecdh.PublicKey, alg, apu, apv string) []byte {
	z, err := mine.ECDH(theirs)
	check(err)
	bits := map[string]uint32{"ECDH-ES+A128KW": 128, "ECDH-ES+A192KW": 192, "ECDH-ES+A256KW": 256}[alg]
	in := append([]byte{0, 0, 0, 1}, z...)
	for _, s := range []string{alg, apu, apv} {
		in = binary.BigEndian.AppendUint32(in, uint32(len(s)))
		in = append(in, s...)
	}
	in = binary.BigEndian.AppendUint32(in, bits)
	key := sha256.Sum256(in)
	return key[:bits/8]
}

func wrap(kek, cek []byte) []byte {
	block, err := aes.NewCipher(kek)
	check(err)
	n := len(cek) / 8
	out := append(bytes.Repeat([]byte{0xa6}, 8), cek...)
	for j := range 6 {
		for i := 1; i <= n; i++ {
			b := append(bytes.Clone(out[:8]), out[8*i:8*i+8]...)
			block.Encrypt(b, b)
			t := binary.BigEndian.Uint64(b[:8]) ^ uint64(n*j+i)
			binary.BigEndian.PutUint64(out[:8], t)
			copy(out[8*i:], b[8:])
		}
	}
	return out
}

func encrypt(z sizes, cek, iv, body []byte, protected string) (text, tag []byte) {
	if z.block == 1 {
		block, err := aes.NewCipher(cek)
		check(err)
		gcm, err := cipher.NewGCM(block)
		check(err)
		out := gcm.Seal(nil, iv, body, []byte(protected))
		return out[:len(out)-16], out[len(out)-16:]
	}
	pad := 16 - len(body)%16
	body = append(bytes.Clone(body), bytes.Repeat([]byte{byte(pad)}, pad)...)
	block, err := aes.NewCipher(cek[len(cek)/2:])
	check(err)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(body, body)
	hash := map[int]crypto.Hash{32: crypto.SHA256, 48: crypto.SHA384, 64: crypto.SHA512}[z.cek]
	mac := hmac.New(hash.New, cek[:len(cek)/2])
	mac.Write([]byte(protected))
	mac.Write(iv)
	mac.Write(body)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(8*len(protected))))
	return body, mac.Sum(nil)[:z.tag]
}
