package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"stepup/webhook"
)

// The api listener speaks TLS with the configured certificate, and after a reload with the new one. The keys that the
// provider fetches move to the public listener where there is one.
func TestServeTLS(t *testing.T) {
	dir := t.TempDir()
	selfSigned(t, dir, "first")
	public := net.JoinHostPort("127.0.0.1", strconv.Itoa(freePorts(t, 1)))
	w := begin(t, func(yaml string) string {
		return strings.Replace(yaml, "listen: {", `listen: {public: "`+public+`", tls: {cert_file: `+dir+`/first.crt, key_file: `+dir+`/first.key}, `, 1)
	})
	addr := strings.TrimPrefix(w.bank.url, "http://")
	subject := func() string {
		c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if err != nil {
			return ""
		}
		defer c.Close()
		if c.ConnectionState().NegotiatedProtocol != "h2" {
			t.Error("HTTP/2 is not offered")
		}
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := subject(); got != "first" {
		t.Errorf("the certificate is %q", got)
	}
	if res, err := http.Get("http://" + public + "/.well-known/jwks.json"); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("our keys on the public listener: %v, %v", res, err)
	}
	insecure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	if res, err := insecure.Get("https://" + addr + "/.well-known/jwks.json"); err != nil || res.StatusCode != http.StatusNotFound {
		t.Errorf("our keys on the api listener, too: %v, %v", res, err)
	}

	private, _ := webhook.NewKeyPair()
	write(t, w.dir, webhookFile, private+"\n")
	selfSigned(t, dir, "second")
	for _, part := range []string{".crt", ".key"} {
		if err := os.Rename(dir+"/second"+part, dir+"/first"+part); err != nil {
			t.Fatal(err)
		}
	}
	w.hup <- os.Interrupt
	eventually(t, "the new certificate is served", func() bool { return subject() == "second" })
	keys, err := webhook.ParseSecrets([]byte(private))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"http://" + public, "https://" + addr} {
		res, err := insecure.Get(at + "/.well-known/webhook-jwks.json")
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusOK || string(got) != string(webhook.KeySet(keys)) {
			t.Errorf("%s: the new webhook key: %d %s", at, res.StatusCode, got)
		}
	}
	w.drain(t)
}

// listen verifies what arrives and says what it was.
func TestInbox(t *testing.T) {
	lines, public := newWebhookKeys("both")
	secrets, err := webhook.ParseSecrets([]byte(lines))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir, "both", lines)
	write(t, dir, "v1", lines[:strings.Index(lines, "#")])
	write(t, dir, "public", "# ours\n"+public+"\n")
	for name, c := range map[string]listenCmd{
		"secrets": {Secret: dir + "/both"}, "v1": {Secret: dir + "/v1"}, "public key": {PublicKey: public},
		"file of it": {PublicKey: dir + "/public"}, "both": {Secret: dir + "/v1", PublicKey: public},
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := c.keys()
			if err != nil {
				t.Fatal(err)
			}
			checkInbox(t, keys, secrets)
		})
	}
}

func checkInbox(t *testing.T, keys []webhook.Key, secrets []webhook.Secret) {
	t.Helper()
	var out bytes.Buffer
	in := &inbox{keys: keys, seen: map[string]bool{}, show: func(n news) { n.print(&out) }}
	for _, c := range []struct {
		name, body, signed string
		status             int
		says               string
	}{
		{"good", `{"type":"step_up.approved"}`, `{"type":"step_up.approved"}`, http.StatusNoContent, "verified  evt_1\n  {\n    \"type\": \"step_up.approved\"\n  }\n"},
		{"again", `{"type":"step_up.approved"}`, `{"type":"step_up.approved"}`, http.StatusNoContent, "again"},
		{"changed", `{"type":"step_up.approved"}`, `{"type":"step_up.denied"}`, http.StatusUnauthorized, "REFUSED"},
		{"not JSON", "hello", "hello", http.StatusNoContent, "verified"},
	} {
		out.Reset()
		if got := post(in, secrets, c.body, c.signed); got != c.status || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: %d and %q", c.name, got, out.String())
		}
	}
}

// listen shows the event inside encrypted content, or to whom it is encrypted, and says what kind of event is not a step-up's
// end. What cannot be opened is refused, so that it comes again.
func TestInboxOpens(t *testing.T) {
	secrets, err := webhook.ParseSecrets([]byte(webhook.NewSecret()))
	if err != nil {
		t.Fatal(err)
	}
	private, public := webhook.NewEncryptionKey()
	to, err := webhook.ParseRecipient([]byte(public))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir, "receiver.jwks.json", string(private))
	another, _ := webhook.NewEncryptionKey()
	write(t, dir, "another.jwks.json", string(another))

	const approved = `{"type":"step_up.approved","data":{"id":"su_1","status":"approved","reference":"inside"}}`
	const tried = `{"type":"endpoint.test","data":{"caller":"core","webhook":"ledger"}}`
	around := func(event, inside string) string {
		token, err := to.Encrypt([]byte(inside))
		if err != nil {
			t.Fatal(err)
		}
		event = strings.Replace(event, `,"reference":"inside"`, "", 1)
		return strings.Replace(event, `}}`, `,"encrypted":"`+token+`"}}`, 1)
	}
	for _, c := range []struct {
		name, decrypt, body string
		status              int
		says                string
		hides               string
	}{
		{"opened", "receiver.jwks.json", around(approved, approved), http.StatusNoContent, `"reference": "inside"`, `"encrypted"`},
		{"closed", "", around(approved, approved), http.StatusNoContent, "(encrypted to key " + to.KeyID() + "; --decrypt FILE opens it)", "inside"},
		{"another's key", "another.jwks.json", around(approved, approved), http.StatusUnprocessableEntity, "REFUSED   opening webhook: encrypted to key \"" + to.KeyID(), "inside"},
		{"another step-up inside", "receiver.jwks.json", around(approved, strings.Replace(approved, "su_1", "su_2", 1)), http.StatusUnprocessableEntity, "data.id is not the same", "inside\""},
		{"a test", "receiver.jwks.json", tried, http.StatusNoContent, "(a test of this endpoint, about nobody)\n  {", "encrypted"},
		{"an encrypted test", "receiver.jwks.json", around(tried, tried), http.StatusNoContent, "(a test of this endpoint, about nobody)  (was encrypted)\n  {", `"encrypted"`},
		{"an encrypted test, closed", "", around(tried, tried), http.StatusNoContent, "about nobody)  (encrypted to key", "was encrypted"},
		{"too late", "receiver.jwks.json", `{"type":"step_up.delivery_expired","data":{"id":"su_1"}}`, http.StatusNoContent, "could not be delivered in time: ask again)\n  {", "encrypted"},
		{"plain", "receiver.jwks.json", approved, http.StatusNoContent, `"reference": "inside"`, "encrypted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var command listenCmd
			if c.decrypt != "" {
				command.Decrypt = dir + "/" + c.decrypt
			}
			keys, err := command.privateKeys()
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			in := &inbox{keys: webhook.Keys(secrets), private: keys, seen: map[string]bool{}, show: func(n news) { n.print(&out) }}
			for _, again := range []bool{false, true} {
				out.Reset()
				if got := post(in, secrets, c.body, c.body); got != c.status {
					t.Fatalf("%d and %q", got, out.String())
				}
				if told := out.String(); again && c.status == http.StatusNoContent {
					if !strings.Contains(told, "again") {
						t.Errorf("repeated: %q", told)
					}
				} else if !strings.Contains(told, c.says) || strings.Contains(told, c.hides) {
					t.Errorf("says %q", told)
				}
			}
		})
	}
}

// post brings an inbox a webhook that is signed as if it were another; it returns the answer.
func post(in *inbox, secrets []webhook.Secret, body, signed string) int {
	r := httptest.NewRequest(http.MethodPost, "/any/path", strings.NewReader(body))
	now := time.Now()
	r.Header.Set("webhook-id", "evt_1")
	r.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	r.Header.Set("webhook-signature", webhook.Sign(secrets, "evt_1", now, []byte(signed)))
	rec := httptest.NewRecorder()
	in.ServeHTTP(rec, r)
	return rec.Code
}

// selfSigned writes NAME.crt and NAME.key.
func selfSigned(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, // its own authority
	}
	template.Subject.CommonName = name
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, name+".crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, dir, name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}
