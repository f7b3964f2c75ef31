package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// What sends telemetry takes a value that it cannot read for none, and tells nobody: with a certificate that is not there it would
// trust others. So the variables it reads are judged here, where they have an effect. No value is told: headers hold keys.

const (
	aDay      = 24 * 60 * 60 * 1000 // ms
	mostSpans = 1_000_000           // in a queue; each is about a kilobyte
)

// sent judges what the variables say of how a signal is sent.
func (env *otel) sent(signal, to string) {
	if to == "" {
		return
	}
	own := func(setting string) string { name, _ := env.of(signal, setting); return name }
	env.choice(own("COMPRESSION"), "gzip", "none")
	env.number(own("TIMEOUT"), "milliseconds", aDay)
	env.headers(own("HEADERS"))
	env.certificates(signal, strings.HasPrefix(to, "https://"))
	if signal == "traces" {
		env.number("OTEL_BSP_SCHEDULE_DELAY", "milliseconds", aDay)
		env.number("OTEL_BSP_EXPORT_TIMEOUT", "milliseconds", aDay)
		env.number("OTEL_BSP_MAX_QUEUE_SIZE", "spans", mostSpans)
		env.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "spans", mostSpans)
		return
	}
	env.number("OTEL_METRIC_EXPORT_INTERVAL", "milliseconds", aDay)
	env.number("OTEL_METRIC_EXPORT_TIMEOUT", "milliseconds", aDay)
	env.choice("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative", "delta", "lowmemory")
	env.choice("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "explicit_bucket_histogram", "base2_exponential_bucket_histogram")
}

// choice wants one of the words.
func (env *otel) choice(name string, words ...string) {
	if value := env.values[name]; value != "" && !slices.Contains(words, value) {
		env.wrong(name, "must be "+either(words))
	}
}

// number wants a whole number of one at least: of zero some make a loop without a pause.
func (env *otel) number(name, of string, most int) {
	value := env.values[name]
	if n, err := strconv.Atoi(value); value != "" && (err != nil || n < 1 || n > most) {
		env.wrong(name, fmt.Sprintf("must be a whole number of %s, from 1 to %d", of, most))
	}
}

var headerName = regexp.MustCompile("^[-!#$%&'*+.^_`|~0-9A-Za-z]+$") // RFC 9110 §5.6.2

// headers wants what every request can carry.
func (env *otel) headers(name string) {
	for pair := range strings.SplitSeq(env.values[name], ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		key, text, ok := strings.Cut(pair, "=")
		text, err := url.PathUnescape(text)
		control := func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }
		if !ok || err != nil || !headerName.MatchString(strings.TrimSpace(key)) || strings.ContainsFunc(text, control) {
			env.wrong(name, "must be name=value pairs with commas between; write what is special in a value as %XX, such as %2C for a comma")
		}
	}
}

// certificates wants files that are there, and a connection that uses them.
func (env *otel) certificates(signal string, encrypted bool) {
	ca, roots := env.of(signal, "CERTIFICATE")
	own, cert := env.of(signal, "CLIENT_CERTIFICATE")
	ownKey, key := env.of(signal, "CLIENT_KEY")
	if cert != "" { // a key counts beside its certificate only
		ownKey = strings.TrimSuffix(own, "CERTIFICATE") + "KEY"
		key = env.values[ownKey]
	}
	for _, f := range []struct{ name, value string }{{ca, roots}, {own, cert}, {ownKey, key}} {
		if f.value != "" && !encrypted {
			env.wrong(f.name, "is for https://, but "+signal+" go to an http:// address; write https:// there, or unset it")
		}
	}
	if roots != "" {
		if pem, err := os.ReadFile(roots); err != nil || !x509.NewCertPool().AppendCertsFromPEM(pem) {
			env.wrong(ca, "must name a file with certificates in PEM form")
		}
	}
	switch {
	case cert == "" && key == "":
	case cert == "":
		env.wrong(ownKey, "is a key without its certificate; set "+strings.TrimSuffix(ownKey, "KEY")+"CERTIFICATE too")
	case key == "":
		env.wrong(own, "is a certificate without its key; set "+ownKey+" too")
	default:
		if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
			env.wrong(own, "must name a certificate in PEM form, and "+ownKey+" the key that belongs to it")
		}
	}
}

// resource wants attributes that can be read.
func (env *otel) resource() {
	const name = "OTEL_RESOURCE_ATTRIBUTES"
	if env.values[name] == "" {
		return
	}
	for pair := range strings.SplitSeq(env.values[name], ",") {
		_, value, ok := strings.Cut(pair, "=")
		if _, err := url.PathUnescape(value); !ok || err != nil {
			env.wrong(name, "must be key=value pairs with commas between; write what is special in a value as %XX")
		}
	}
}
