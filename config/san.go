package config

import (
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// checkSANs judges a caller's certificate names. owners, by name, are the callers that were judged before: the caller is
// all that separates step-ups, so a certificate must never speak for two.
func (r *reader) checkSANs(key string, sans []string, c *Config, owners map[string]string) {
	key += ".certificate_sans"
	if len(sans) > 0 && c.Listen.TLS.ClientCA == nil && !r.told("listen.tls.client_ca_file") {
		r.wrong(key, "has no effect without listen.tls.client_ca_file; name the authority that signs your callers' certificates")
	}
	for i, san := range sans {
		item := fmt.Sprintf("%s[%d]", key, i)
		if text := sanProblem(san); text != "" {
			r.wrong(item, "%s", text)
		} else if owner, taken := owners[san]; taken && owner == key {
			r.wrong(item, "is listed twice; remove one")
		} else if taken {
			r.wrong(item, "is in %s too; a certificate must speak for one caller only", owner)
		}
		owners[san] = key
	}
}

var dnsForm = regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// sanProblem says what is wrong with a certificate's name (RFC 5280 §4.2.1.6), or "". Names are compared as they are
// written, so only the one way of writing each is taken.
func sanProblem(san string) string {
	addr, err := netip.ParseAddr(san)
	switch {
	case san == "" || strings.ContainsAny(san, " \t\r\n"):
		return "must be a name without spaces, such as client.bank.example or spiffe://bank.example/ledger"
	case strings.Contains(san, "*"):
		return "must be one name, without *; list every name that is this caller"
	case err == nil && (addr.Zone() != "" || addr.Is4In6() || addr.String() != san):
		return "is not how an address is written in a certificate; write " + addr.Unmap().WithZone("").String()
	case err == nil:
	case strings.Contains(san, ":"):
		return uriProblem(san)
	case strings.Contains(san, "@"):
		return mailProblem(san)
	case dnsForm.MatchString(san):
	case dnsForm.MatchString(strings.ToLower(san)):
		return "must be in lower case; write " + strings.ToLower(san)
	default:
		return "must be a DNS name, a URI, an e-mail address or an IP address"
	}
	return ""
}

func uriProblem(san string) string {
	switch u, err := url.Parse(san); {
	case err != nil || u.Scheme == "" || u.Opaque == "" && u.Host == "":
		return "must be a whole URI, such as spiffe://bank.example/ledger"
	case strings.Trim(u.Opaque, "0123456789") == "" && u.Opaque != "":
		return "has a port; write the name alone"
	case u.String() != san:
		return "is not how a URI is written in a certificate; write " + u.String()
	case strings.ToLower(u.Host) != u.Host:
		return "must have its host in lower case"
	}
	return ""
}

func mailProblem(san string) string {
	addr, err := mail.ParseAddress(san)
	if err != nil || addr.Address != san {
		return "must be an e-mail address alone, such as ledger@bank.example"
	}
	if _, host, _ := strings.Cut(san, "@"); strings.ToLower(host) != host {
		return "must have the part after the @ in lower case"
	}
	return ""
}
