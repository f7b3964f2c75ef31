package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The versions of signatures in Standard Webhooks 1.0.0, "Signature scheme".
const (
	versionSymmetric  = "v1,"  // HMAC-SHA256
	versionAsymmetric = "v1a," // ed25519
)

// Sign returns the webhook-signature header of a message that is sent at the given time: one
// `v1,…` for each whsec_ secret and one `v1a,…` for each whsk_ key, with blanks between them,
// so that receivers can change theirs at their own time. v1 comes first: it is the one that
// every library knows. Sign returns "" when there is no secret.
func Sign(secrets []Secret, id string, at time.Time, body []byte) string {
	signed := content(id, strconv.FormatInt(at.Unix(), 10), body)
	var symmetric, asymmetric []string
	for _, s := range secrets {
		switch {
		case s.key == nil:
		case s.asymmetric:
			signature := ed25519.Sign(s.key(), signed)
			asymmetric = append(asymmetric, versionAsymmetric+base64.StdEncoding.EncodeToString(signature))
		default:
			symmetric = append(symmetric, versionSymmetric+mac(s.key(), signed))
		}
	}
	return strings.Join(slices.Concat(symmetric, asymmetric), " ")
}

// content is what is signed, in both versions: id, timestamp and body with dots between them.
// timestamp is taken as the text of the header, so only its one spelling verifies.
func content(id, timestamp string, body []byte) []byte {
	return slices.Concat([]byte(id), []byte("."), []byte(timestamp), []byte("."), body)
}

// mac is the text of a v1 signature.
func mac(key, signed []byte) string {
	h := hmac.New(sha256.New, key)
	h.Write(signed)
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}
