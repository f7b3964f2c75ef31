package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// least is the shortest configuration that is complete.
const least = `
seal:
  keys_file: secrets/seal.keys
providers:
  singpass:
    issuer: https://stg-id.singpass.gov.sg
    profile: singpass
    client_id: abc
    keys_file: secrets/private.jwks.json
callers:
  bank:
    api_keys_file: secrets/bank.apikeys
    providers: [singpass]
`

func load(t *testing.T, text string, environ ...string) (*Config, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	writeSecrets(t)
	write(t, "stepup.yaml", text, 0o644)
	return Load("stepup.yaml", environ)
}

func mustLoad(t *testing.T, text string, environ ...string) *Config {
	t.Helper()
	c, err := load(t, text, environ...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDefaults(t *testing.T) {
	c := mustLoad(t, least)
	p, bank := c.Providers["singpass"], c.Callers["bank"]
	for _, tt := range []struct {
		name      string
		got, want any
	}{
		{"listen.api", c.Listen.API, "127.0.0.1:8080"},
		{"listen.public", c.Listen.Public, ""},
		{"listen.admin", c.Listen.Admin, "127.0.0.1:8081"},
		{"redis.url", c.Redis.URL, "redis://127.0.0.1:6379/0"},
		{"redis.shards", c.Redis.Shards, 8},
		{"redis.wait_replicas", c.Redis.WaitReplicas, 0},
		{"worker", c.Worker, Worker{10_000, 100_000}},
		{"seal", string(c.Seal.Keys.Bytes()), "content of seal.keys\n"},
		{"id_token", p.IDTokenEncrypted, true},
		{"audience", p.Audience, "https://stg-id.singpass.gov.sg"},
		{"nric_checksum", p.NRICChecksum, true},
		{"algs", p.Algs, singpassAlgs()},
		{"poll", p.Poll, Poll{5 * time.Second, 40 * time.Second, 0}},
		{"rate", p.Rate, Rate{0, 0}},
		{"evidence, paused, bind", []any{p.Evidence, p.Paused, p.Bind}, []any{false, false, ""}},
		{"may_list", bank.MayList, false},
		{"allow_networks", len(c.Webhooks.AllowNetworks), 0},
		{"webhooks.timeout", c.Webhooks.Timeout, 15 * time.Second},
		{"limits", c.Limits, Limits{PersonLimits{1, 10}, CallerLimits{50, 100, 0}}},
		{"result_ttl", c.ResultTTL, 15 * time.Minute},
		{"purge_on_delivery", c.PurgeOnDelivery, false},
		{"client_ca_file", []any{c.Listen.TLS.ClientCA, c.Listen.AdminTLS.ClientCA}, []any{[]byte(nil), []byte(nil)}},
		{"certificate_sans", len(bank.CertificateSANs), 0},
		{"audit_file", c.AuditFile, ""},
	} {
		if !reflect.DeepEqual(tt.got, tt.want) {
			t.Errorf("%s = %v, want %v", tt.name, tt.got, tt.want)
		}
	}
	if line := p.Keys.Line(); line != 9 {
		t.Errorf("keys_file is on line %d, want 9", line)
	}
}

func TestValues(t *testing.T) {
	c := mustLoad(t, `
development: true
redis:
  url: embedded
seal: {keys_file: secrets/seal.keys}
providers:
  local:
    issuer: http://127.0.0.1:9000
    profile: standard
    client_id: "123"
    keys_file: secrets/private.jwks.json
    id_token: signed
    audience: http://127.0.0.1:9000/token
    bind: subject
    algs: {signing: [RS256]}
    poll: {interval: 1s, timeout: 1500ms, hold: 1m}
    rate: {bc_auth: 20, token: 400}
callers:
  bank:
    api_keys_file: secrets/bank.apikeys
    providers: [local]
    webhooks:
      - {name: ledger, url: "http://localhost:9001/hooks", secrets_file: secrets/ledger.whsec}
      - {name: audit, url: "http://10.0.0.1/", secrets_file: secrets/ledger.whsec, events: [step_up.approved], content: reference}
      - {name: sealed, pull: true, content: encrypted, encrypt_to_file: secrets/tls.pem}
telemetry: {otlp_endpoint: "https://otel.bank.example/ingest"}
`)
	p, hooks := c.Providers["local"], c.Callers["bank"].Webhooks
	if c.Telemetry.OTLPEndpoint != "https://otel.bank.example/ingest" {
		t.Errorf("telemetry = %+v", c.Telemetry)
	}
	if p.IDTokenEncrypted || p.Bind != "subject" || p.ClientID != "123" || p.Audience != "http://127.0.0.1:9000/token" {
		t.Errorf("provider = %+v", p)
	}
	want := profileAlgs("standard")
	want.Signing = []string{"RS256"}
	if !reflect.DeepEqual(p.Algs, want) {
		t.Errorf("algs = %v, want %v: one list given, the others by profile", p.Algs, want)
	}
	if (p.Poll != Poll{time.Second, 1500 * time.Millisecond, time.Minute}) {
		t.Errorf("poll = %v", p.Poll)
	}
	if (p.Rate != Rate{20, 400}) {
		t.Errorf("rate = %v", p.Rate)
	}
	if h := hooks[0]; h.Content != "full" || !reflect.DeepEqual(h.Events, []string{"step_up.*"}) || string(h.Secrets.Bytes()) != "content of ledger.whsec\n" {
		t.Errorf("webhook without events and content = %+v", h)
	}
	if h := hooks[1]; h.Content != "reference" || !reflect.DeepEqual(h.Events, []string{"step_up.approved"}) {
		t.Errorf("webhook with events and content = %+v", h)
	}
	if loopback := netip.MustParsePrefix("127.0.0.0/8"); len(c.Webhooks.AllowNetworks) == 0 || c.Webhooks.AllowNetworks[0] != loopback {
		t.Errorf("in development webhooks reach %v, want loopback too", c.Webhooks.AllowNetworks)
	}
	if h := hooks[2]; !h.Pull || h.Content != "encrypted" || string(h.EncryptTo) != tlsPair().cert || !h.Secrets.IsZero() {
		t.Errorf("webhook that is pulled = %+v", h)
	}
}

// A caller may be known by a certificate alone, and operators too.
func TestClientCertificates(t *testing.T) {
	c := mustLoad(t, strings.Replace(least, "api_keys_file: secrets/bank.apikeys",
		"certificate_sans: [client.bank.example, 'spiffe://bank.example/ledger', 'urn:bank:ledger', ledger@bank.example, 10.1.2.3, '2001:db8::1']", 1)+`
listen:
  admin: :8081
  tls: {cert_file: secrets/tls.pem, key_file: secrets/tls.key, client_ca_file: secrets/tls.pem}
  admin_tls: {cert_file: secrets/tls.pem, key_file: secrets/tls.key}
limits: {per_caller: {persons_per_hour: 300}}
`, "STEPUP_LISTEN_ADMIN_TLS_CLIENT_CA_FILE=secrets/tls.pem")
	want := []string{"client.bank.example", "spiffe://bank.example/ledger", "urn:bank:ledger", "ledger@bank.example", "10.1.2.3", "2001:db8::1"}
	if got := c.Callers["bank"].CertificateSANs; !reflect.DeepEqual(got, want) {
		t.Errorf("certificate_sans = %v, want %v", got, want)
	}
	if ca := tlsPair().cert; string(c.Listen.TLS.ClientCA) != ca || string(c.Listen.AdminTLS.ClientCA) != ca {
		t.Error("the authorities were not read")
	}
	if n := c.Limits.PerCaller.PersonsPerHour; n != 300 {
		t.Errorf("persons_per_hour = %d", n)
	}
}

// The audit file need not be there yet, but its folder must; a path is relative to the configuration.
func TestAuditFile(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct{ written, want string }{
		{"audit.jsonl", "audit.jsonl"},
		{"secrets/audit.jsonl", filepath.Join("secrets", "audit.jsonl")},
		{filepath.Join(dir, "audit.jsonl"), filepath.Join(dir, "audit.jsonl")},
		{`""`, ""},
	} {
		if c := mustLoad(t, least+"audit_file: "+tt.written+"\n"); c.AuditFile != tt.want {
			t.Errorf("audit_file: %s is %q, want %q", tt.written, c.AuditFile, tt.want)
		}
	}
}

// Paths are relative to the configuration, not to where the program runs.
func TestRelativePaths(t *testing.T) {
	c := mustLoad(t, least)
	if got := c.Seal.Keys.Path(); got != filepath.Join("secrets", "seal.keys") {
		t.Errorf("path = %q", got)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	c, err = Load(filepath.Join(dir, "stepup.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Seal.Keys.Path(), filepath.Join(dir, "secrets", "seal.keys"); got != want {
		t.Errorf("path = %q, want %q", got, want)
	}
}

func TestEnvironment(t *testing.T) {
	c := mustLoad(t, least+"redis: {url: nonsense, shards: 99, password_file: secrets/absent}\n",
		"STEPUP_REDIS_URL=redis-sentinel://h1:26379,h2/master",
		"STEPUP_REDIS_SHARDS=16",
		"STEPUP_REDIS_USERNAME=stepup",
		"STEPUP_REDIS_PASSWORD_FILE=secrets/redis",
		"STEPUP_REDIS_SENTINEL_PASSWORD_FILE=secrets/redis",
		"STEPUP_LISTEN_API=:80",
		"STEPUP_LISTEN_ADMIN=:81",
		"STEPUP_LISTEN_ADMIN_TOKEN_FILE=secrets/admin.token",
		"STEPUP_LISTEN_PUBLIC=",
		"STEPUP_SOMETHING=else",
		"PATH=/bin",
	)
	if c.Redis.URL != "redis-sentinel://h1:26379,h2/master" || c.Redis.Shards != 16 || c.Redis.Username != "stepup" {
		t.Errorf("redis = %+v", c.Redis)
	}
	if got := string(c.Redis.Password.Bytes()); got != "content of redis\n" {
		t.Errorf("password file holds %q", got)
	}
	if c.Redis.Password.Line() != 0 {
		t.Error("a file named by the environment has a line")
	}
	if c.Listen.API != ":80" || c.Listen.Admin != ":81" || c.Listen.AdminToken.IsZero() || c.Listen.Public != "" {
		t.Errorf("listen = %+v", c.Listen)
	}
}

func TestRedisForms(t *testing.T) {
	for url, ok := range map[string]bool{
		"redis://127.0.0.1:6379/0":           true,
		"redis://redis":                      true,
		"redis://[::1]:6379/15":              true,
		"rediss://redis.example:6380/1":      true,
		"unix:///run/redis/redis.sock":       true,
		"redis-sentinel://h1,h2:26379/main":  true,
		"redis-cluster://h1:7000,h2:7001,h3": true,
		"":                                   false,
		"127.0.0.1:6379":                     false,
		"redis://":                           false,
		"redis://host:0/0":                   false,
		"redis://host:6379/zero":             false,
		"redis://h1,h2/0":                    false,
		"redis://user:pw@host/0":             false,
		"redis://host/0?protocol=2":          false,
		"unix://relative/path":               false,
		"redis-sentinel://h1,h2":             false,
		"redis-sentinel://h1,,h2/main":       false,
		"redis-cluster://h1/0":               false,
		"memcached://h1":                     false,
	} {
		if _, problem := redisForm(url); (problem == "") != ok {
			t.Errorf("redis.url %q: problem %q, want ok %v", url, problem, ok)
		}
	}
}

// With problems the rest is still read, so that a check can look into the files in the same run.
func TestProblemsWithConfig(t *testing.T) {
	c, err := load(t, least+"result_ttl: 48h\n")
	problems, ok := errors.AsType[Problems](err)
	if !ok || len(problems) != 1 {
		t.Fatalf("Load: %v", err)
	}
	if want := (Problem{"stepup.yaml", 14, "result_ttl", "must be from 1s to 24h"}); problems[0] != want {
		t.Errorf("problem = %+v, want %+v", problems[0], want)
	}
	if c.Providers["singpass"].Keys.IsZero() {
		t.Error("the files were not read")
	}
}

func TestNoFile(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "absent.yaml"), nil)
	if _, ok := errors.AsType[Problems](err); !ok || !strings.Contains(err.Error(), "absent.yaml: cannot be read: no such file") {
		t.Errorf("Load: %v", err)
	}
}

// Whatever stands in the file, Load answers with a configuration or with problems that name the file.
func FuzzLoad(f *testing.F) {
	f.Add(least)
	for _, seed := range []string{"", "a: b", "? a\n: b", "seal: &a [*a]", "<<: {}", "- 1", "providers: {a: {poll: {interval: 1s}}}", "\"\": 1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name := filepath.Join(t.TempDir(), "stepup.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(name, nil)
		problems, ok := errors.AsType[Problems](err)
		if err != nil && (!ok || len(problems) == 0) {
			t.Fatalf("error without problems: %v", err)
		}
		for _, p := range problems {
			if p.File != name || p.Text == "" {
				t.Errorf("problem without place or text: %+v", p)
			}
		}
	})
}
