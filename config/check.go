package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// check judges what was read. Order does not matter: problems are sorted by line in the end.
func (r *reader) check(c *Config) {
	r.checkListen(c)
	r.checkRedis(c)
	r.need("seal.keys_file", !c.Seal.Keys.IsZero(), "name the file that `stepup keygen` wrote as seal.keys")
	r.between("worker.max_in_flight", c.Worker.MaxInFlight, 1, 1_000_000)
	if r.between("worker.max_in_flight_total", c.Worker.MaxInFlightTotal, 1, 100_000_000) && c.Worker.MaxInFlightTotal < c.Worker.MaxInFlight {
		r.wrong("worker.max_in_flight_total", "is less than worker.max_in_flight; it counts all processes together, so raise it")
	}
	r.between("limits.per_person.in_flight", c.Limits.PerPerson.InFlight, 1, 100)
	r.between("limits.per_person.per_hour", c.Limits.PerPerson.PerHour, 1, 100_000)
	r.between("limits.per_caller.rate", c.Limits.PerCaller.Rate, 1, 1_000_000)
	r.between("limits.per_caller.burst", c.Limits.PerCaller.Burst, 1, 1_000_000)
	r.between("limits.per_caller.persons_per_hour", c.Limits.PerCaller.PersonsPerHour, 0, 1_000_000)
	r.within("result_ttl", c.ResultTTL, time.Second, 24*time.Hour)
	r.checkAuditFile(c)
	if raw := c.Telemetry.OTLPEndpoint; raw != "" {
		if text := collectorProblem(raw); text != "" {
			r.wrong("telemetry.otlp_endpoint", "%s", text)
		}
	}
	r.checkAllowNetworks(c)
	r.within("webhooks.timeout", c.Webhooks.Timeout, time.Second, time.Minute)

	r.need("providers", len(c.Providers) > 0, "name at least one provider")
	for _, name := range slices.Sorted(maps.Keys(c.Providers)) {
		r.checkProvider("providers."+name, name, c.Providers[name], c.Development)
	}
	r.need("callers", len(c.Callers) > 0, "name at least one caller")
	owners := map[string]string{} // of certificate names
	for _, name := range slices.Sorted(maps.Keys(c.Callers)) {
		r.checkCaller("callers."+name, name, c.Callers[name], c)
		r.checkSANs("callers."+name, c.Callers[name].CertificateSANs, c, owners)
	}
}

func (r *reader) checkListen(c *Config) {
	l := c.Listen
	for key, addr := range map[string]string{"listen.api": l.API, "listen.public": l.Public, "listen.admin": l.Admin} {
		switch {
		case addr == "" && key == "listen.public":
		case addr == "":
			r.wrong(key, "is empty; write an address such as 127.0.0.1:8080")
		case !listenAddress(addr):
			r.wrong(key, "must be "+addressForm)
		}
	}
	if sameAddress(l.Admin, l.API) {
		r.wrong("listen.admin", "is the same address as listen.api; operators need a listener of their own")
	}
	if sameAddress(l.Public, l.Admin) {
		r.wrong("listen.public", "is the same address as listen.admin, which must never be public; give it another")
	}
	if sameAddress(l.Public, l.API) {
		r.wrong("listen.public", "is the same address as listen.api; leave it empty to serve both there")
	}
	if l.AdminToken.IsZero() && l.AdminTLS.ClientCA == nil && listenAddress(l.Admin) && !loopback(l.Admin) {
		r.wrong("listen.admin", "is reachable from other machines; set listen.admin_token_file or listen.admin_tls.client_ca_file, or listen on 127.0.0.1")
	}
	r.checkServerTLS("listen.tls", l.TLS)
	r.checkServerTLS("listen.admin_tls", l.AdminTLS)
}

func (r *reader) checkServerTLS(section string, t ServerTLS) {
	r.checkPair(section, t.Cert, t.Key)
	r.checkCA(section+".client_ca_file", t.ClientCA)
	if t.ClientCA != nil && t.Cert == nil && t.Key.IsZero() && !r.told(section+".cert_file") && !r.told(section+".key_file") {
		r.wrong(section+".client_ca_file", "has no effect without TLS; set cert_file and key_file too, or remove it")
	}
}

func (r *reader) checkRedis(c *Config) {
	form, text := redisForm(c.Redis.URL)
	if text != "" {
		r.wrong("redis.url", "%s", text)
	}
	if form == "embedded" && !c.Development {
		r.wrong("redis.url", "is embedded, which forgets everything at exit and is for development only; name a Redis, or set development: true")
	}
	if form == "embedded" && (c.Redis.Username != "" || !c.Redis.Password.IsZero()) {
		r.wrong("redis.username", "has no effect with redis.url embedded, and neither has password_file; remove them")
	}
	r.between("redis.shards", c.Redis.Shards, 1, 64)
	if r.between("redis.wait_replicas", c.Redis.WaitReplicas, 0, 5) && c.Redis.WaitReplicas > 0 && form == "embedded" {
		r.wrong("redis.wait_replicas", "can never be met by redis.url embedded, which has no replicas; remove it")
	}
	if !c.Redis.SentinelPassword.IsZero() && form != "" && form != "redis-sentinel" {
		r.wrong("redis.sentinel_password_file", "is only for redis-sentinel:// URLs; remove it")
	}
	t := c.Redis.TLS
	if set := t.CA != nil || t.Cert != nil || !t.Key.IsZero(); set && (form == "redis" || form == "unix" || form == "embedded") {
		r.wrong("redis.tls", "has no effect with this redis.url; write rediss:// or remove it")
	}
	r.checkPair("redis.tls", t.Cert, t.Key)
	r.checkCA("redis.tls.ca_file", t.CA)
}

// checkPair wants both halves of a certificate, and that they belong together.
func (r *reader) checkPair(section string, cert []byte, key Secret) {
	switch {
	case cert == nil && key.IsZero():
	case cert == nil:
		r.need(section+".cert_file", false, "name the certificate that belongs to key_file")
	case key.IsZero():
		r.need(section+".key_file", false, "name the key that belongs to cert_file")
	default:
		if _, err := tls.X509KeyPair(cert, key.Bytes()); err != nil {
			r.wrong(section+".cert_file", "is not a PEM certificate for the key in key_file; correct one of them")
		}
	}
}

func (r *reader) checkCA(key string, pem []byte) {
	if pem != nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
		r.wrong(key, "holds no PEM certificate; name a file with the authority's certificates")
	}
}

// checkAuditFile leaves opening to those who write. The path must not be a secret's content, which would be repeated.
func (r *reader) checkAuditFile(c *Config) {
	if c.AuditFile == "" {
		return
	}
	if looksSecret(c.AuditFile) {
		r.wrong("audit_file", "must be the path of a file")
		return
	}
	c.AuditFile = r.path(c.AuditFile)
	if info, err := os.Stat(filepath.Dir(c.AuditFile)); err != nil || !info.IsDir() {
		r.wrong("audit_file", "is in a folder that does not exist, seen from the configuration's folder; create the folder or correct the path")
		return
	}
	if info, err := os.Stat(c.AuditFile); err == nil && info.IsDir() {
		r.wrong("audit_file", "is a folder; name a file in it, such as %s", filepath.Join(c.AuditFile, "audit.jsonl"))
	}
}

// checkExports tells what is wrong with OpenTelemetry's own variables.
func (r *reader) checkExports(c *Config, environ []string) {
	_, err := c.Telemetry.Exports(environ)
	if problems, ok := errors.AsType[Problems](err); ok {
		r.problems = append(r.problems, problems...)
	}
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// checkName: names stand in paths, keys and metrics. What is below a badly named section is still judged.
func (r *reader) checkName(key, name string) {
	if !nameForm.MatchString(name) {
		r.note(key, "must be named with 1 to 63 of a-z, 0-9, - and _, beginning with a letter or digit")
	}
}

// need tells a missing value; it returns ok.
func (r *reader) need(key string, ok bool, remedy string) bool {
	if !ok {
		r.wrong(key, "is missing; %s", remedy)
	}
	return ok
}

func (r *reader) between(key string, n, least, most int) bool {
	if n < least || n > most {
		r.wrong(key, "must be from %d to %d", least, most)
		return false
	}
	return true
}

func (r *reader) within(key string, d, least, most time.Duration) bool {
	if d < least || d > most {
		r.wrong(key, "must be from %s to %s", short(least), short(most))
		return false
	}
	return true
}

// short writes 24h rather than 24h0m0s.
func short(d time.Duration) string {
	switch {
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= time.Minute && d%time.Minute == 0 && d != time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

func (r *reader) oneOf(key, value string, words ...string) {
	if !slices.Contains(words, value) {
		r.wrong(key, "must be %s%s", either(words), didYouMean(value, slices.Clone(words)))
	}
}

// either joins words as people do: a, b or c.
func either(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
