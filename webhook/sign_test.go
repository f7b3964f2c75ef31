package webhook

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// secretsOf parses lines that a test made itself.
func secretsOf(t testing.TB, lines ...string) []Secret {
	t.Helper()
	s, err := ParseSecrets([]byte(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func keysOf(t testing.TB, lines ...string) []Key {
	t.Helper()
	k, err := ParseKeys([]byte(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func signed(secrets []Secret, id string, at time.Time, body []byte) http.Header {
	h := http.Header{}
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	h.Set("webhook-signature", Sign(secrets, id, at, body))
	return h
}

// The vectors that all libraries of Standard Webhooks and its authors' server test against: the
// same message in both versions. The private key is in the form of 64 bytes.
const (
	vectorSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTime      = 1614265330
	vectorBody      = `{"test": 2432232314}`
	vectorSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

	vectorPrivate = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	vectorPublic  = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
	vectorV1a     = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="

	// What the specification's own Go library has for v1a: a seed.
	vectorSeed    = "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk="
	vectorSeedV1a = "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag=="
)

func TestSignPublishedVectors(t *testing.T) {
	for _, c := range []struct {
		name    string
		secrets []string
		want    string
	}{
		{"v1", []string{vectorSecret}, vectorSignature},
		{"v1a, 64 bytes", []string{vectorPrivate}, vectorV1a},
		{"v1a, seed of those", []string{vectorPrivate[:len("whsk_")+42] + "c="}, vectorV1a},
		{"v1a, seed", []string{vectorSeed}, vectorSeedV1a},
		{"side by side, v1 first", []string{vectorPrivate, vectorSecret, vectorSeed}, vectorSignature + " " + vectorV1a + " " + vectorSeedV1a},
	} {
		if got := Sign(secretsOf(t, c.secrets...), vectorID, time.Unix(vectorTime, 999), []byte(vectorBody)); got != c.want {
			t.Errorf("%s: Sign = %s, want %s", c.name, got, c.want)
		}
	}
	if got := secretsOf(t, vectorPrivate)[0].PublicKey(); got != vectorPublic {
		t.Errorf("public key %s, want %s", got, vectorPublic)
	}
	if got := secretsOf(t, vectorSecret)[0].PublicKey(); got != "" {
		t.Errorf("a shared secret has the public key %s", got)
	}
}

// The widest header that a file can ask for fits where servers are narrow: 8 KB for all headers.
func TestWidestHeader(t *testing.T) {
	var lines []string
	for range 16 {
		private, _ := NewKeyPair()
		lines = append(lines, private)
	}
	secrets := secretsOf(t, lines...)
	sent := signed(secrets, "evt_1", time.Now(), []byte(`{}`))
	if n := len(sent.Get("webhook-signature")); n > 1500 {
		t.Errorf("%d bytes", n)
	}
	for i := range secrets {
		if err := Verify(sent, []byte(`{}`), Keys(secrets[i:i+1]), time.Now()); err != nil {
			t.Errorf("key %d: %v", i, err)
		}
	}
	if _, err := ParseSecrets([]byte(strings.Join(append(lines, NewSecret()), "\n"))); err == nil || !strings.Contains(err.Error(), "17 keys") {
		t.Errorf("17 keys: %v", err)
	}
}

func TestInteroperates(t *testing.T) {
	line, id, body, now := NewSecret(), "evt_1", []byte(`{"type":"step_up.approved"}`), time.Now()
	theirs, err := standardwebhooks.NewWebhook(line)
	if err != nil {
		t.Fatal(err)
	}
	ours := secretsOf(t, line)

	if err := theirs.Verify(body, signed(ours, id, now, body)); err != nil {
		t.Errorf("their library refuses our signature: %v", err)
	}
	two := append(secretsOf(t, NewSecret()), ours...)
	if err := theirs.Verify(body, signed(two, id, now, body)); err != nil {
		t.Errorf("their library refuses ours as the second of two: %v", err)
	}
	private, _ := NewKeyPair()
	if err := theirs.Verify(body, signed(append(secretsOf(t, private), ours...), id, now, body)); err != nil {
		t.Errorf("their library refuses ours beside v1a: %v", err)
	}
	signature, err := theirs.Sign(id, now, body)
	if err != nil {
		t.Fatal(err)
	}
	h := signed(nil, id, now, body)
	h.Set("webhook-signature", signature)
	if err := Verify(h, body, Keys(ours), now); err != nil {
		t.Errorf("we refuse their signature: %v", err)
	}
}

// Every active secret signs, so a receiver may change its own at any moment of a rotation.
func TestRotation(t *testing.T) {
	past, current, next := NewSecret(), NewSecret(), NewSecret()
	private, public := NewKeyPair()
	now, body := time.Now(), []byte(`{}`)
	sent := signed(secretsOf(t, current, next, private), "evt_1", now, body)
	if n := len(strings.Split(sent.Get("webhook-signature"), " ")); n != 3 {
		t.Fatalf("%d signatures for two secrets and a key", n)
	}
	for name, c := range map[string]struct {
		receiver []string
		ok       bool
	}{
		"current":          {[]string{current}, true},
		"next":             {[]string{next}, true},
		"past and current": {[]string{past, current}, true},
		"all":              {[]string{past, current, next}, true},
		"public":           {[]string{public}, true},
		"past and public":  {[]string{past, public}, true},
		"past alone":       {[]string{past}, false},
	} {
		if err := Verify(sent, body, keysOf(t, c.receiver...), now); (err == nil) != c.ok {
			t.Errorf("receiver with %s: %v", name, err)
		}
	}
}

func TestZeroSecretIsNoKey(t *testing.T) {
	now, body := time.Now(), []byte(`{}`)
	if got := Sign([]Secret{{}, {asymmetric: true}}, "evt_1", now, body); got != "" {
		t.Errorf("the zero secret signed: %s", got)
	}
	empty := Secret{hidden: hidden{func() []byte { return nil }}}
	if Verify(signed([]Secret{empty}, "evt_1", now, body), body, append(Keys([]Secret{{}}), Key{}), now) == nil {
		t.Error("the zero secret verified a signature made with an empty key")
	}
}
