package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// issuerProblem says what is wrong with an issuer, or "".
func issuerProblem(issuer string, development bool) string {
	u, text := webURL(issuer, development)
	switch {
	case text != "":
		return text
	case strings.Contains(u.Path, "/.well-known/"):
		return "is the address of the discovery document; write what stands in it as issuer"
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(issuer, "#"):
		return "must have no query and no fragment; write it as the discovery document has it"
	case !development && privateHost(u.Hostname()):
		return "is a private address; write its public one, or set development: true where no real person is asked"
	}
	return ""
}

// webhookProblem says what is wrong with a webhook's URL, or "". Names are judged after DNS, at every dial, by the
// sender; here only what can never be delivered is refused.
func webhookProblem(raw string, c *Config) string {
	u, text := webURL(raw, c.Development)
	switch {
	case text != "":
		return text
	case strings.Contains(raw, "#"):
		return "must have no fragment"
	}
	return hookHostProblem(u.Hostname(), c)
}

// proxyProblem says what is wrong with the URL of a webhook's proxy, or "". Plain http is fine: the receiver's TLS goes
// through it unread.
func proxyProblem(raw string, c *Config) string {
	u, text := webURL(raw, true)
	switch {
	case !strings.HasPrefix(raw, "http://") && !strings.HasPrefix(raw, "https://"):
		return "must be a URL such as http://proxy.bank.example:3128"
	case text != "":
		return text
	case u.Path != "" && u.Path != "/" || strings.ContainsAny(raw, "?#"):
		return "must be a host and a port alone, such as http://proxy.bank.example:3128"
	}
	return hookHostProblem(u.Hostname(), c)
}

// collectorProblem says what is wrong with the base URL of a collector, or "".
func collectorProblem(raw string) string {
	text := targetProblem(raw)
	if text == "" && (strings.HasSuffix(raw, "/v1/traces") || strings.HasSuffix(raw, "/v1/metrics")) {
		return "must be the collector's base URL; remove /v1/traces or /v1/metrics, which is added"
	}
	return text
}

// targetProblem says what is wrong with a URL that telemetry is sent to, or "". A collector is usually beside us, so plain
// http is fine.
func targetProblem(raw string) string {
	_, text := webURL(raw, true)
	switch {
	case !strings.HasPrefix(raw, "http://") && !strings.HasPrefix(raw, "https://"):
		return "must be a URL such as http://127.0.0.1:4318, where a collector takes OTLP over HTTP"
	case text != "":
		return text
	case strings.ContainsAny(raw, "?#"):
		return "must have no query and no fragment"
	}
	return ""
}

// hookHostProblem judges the host that a webhook's connections go to.
func hookHostProblem(host string, c *Config) string {
	if c.Development || !privateHost(host) {
		return ""
	}
	addr, err := netip.ParseAddr(host)
	addr = addr.Unmap()
	if err != nil || slices.ContainsFunc(own, func(n netip.Prefix) bool { return n.Contains(addr) }) {
		return "leads to this machine or to what only it should ask, where webhooks never go; write another address, or set development: true where no real person is asked"
	}
	if slices.ContainsFunc(c.Webhooks.AllowNetworks, func(n netip.Prefix) bool { return n.Contains(addr) }) {
		return ""
	}
	return privateHook
}

// privateHook is told of a webhook that webhooks.allow_networks could open.
const privateHook = "is a private address, which webhooks do not reach; use a public one, or add its network to webhooks.allow_networks"

func webURL(raw string, development bool) (*url.URL, string) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return nil, "must be a URL such as https://host/path"
	case u.Scheme == "http" && !development:
		return nil, "is http://; write https://, or set development: true where no real person is asked"
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, "must begin with https://"
	case u.User != nil:
		return nil, "must hold no user and no password; remove what stands before the @"
	case u.Port() != "" && !validPort(u.Port()):
		return nil, "has a port that does not exist"
	}
	return u, ""
}

func privateHost(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && privateAddr(addr)
}

var sharedNetwork = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

func privateAddr(addr netip.Addr) bool {
	addr = addr.Unmap()
	return !addr.IsGlobalUnicast() || addr.IsPrivate() || sharedNetwork.Contains(addr)
}

// own are networks that lead back to this machine or to what only this machine should ask, such as a cloud's metadata
// service; 64:ff9b::/96 and ::ffff:0:0/96 hold all of IPv4 once more.
var own = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/3"), netip.MustParsePrefix("::/127"), netip.MustParsePrefix("::ffff:0:0/96"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

// checkAllowNetworks: a bank's own private network may be opened to webhooks by name; this machine's never is, outside
// development.
func (r *reader) checkAllowNetworks(c *Config) {
	for i, n := range c.Webhooks.AllowNetworks {
		key := fmt.Sprintf("webhooks.allow_networks[%d]", i)
		for _, o := range own {
			if !c.Development && n.IsValid() && n.Overlaps(o) {
				r.wrong(key, "would let webhooks reach %s; name a smaller network, or set development: true where no real person is asked", o)
			}
		}
	}
}

// redisForm is the kind of a Redis URL: redis, rediss, unix, redis-sentinel, redis-cluster or embedded. Otherwise it says
// what is wrong, without repeating the URL, which may hold a password.
func redisForm(raw string) (form, problem string) {
	if raw == "embedded" {
		return raw, ""
	}
	form, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return "", "must be redis://, rediss://, unix://, redis-sentinel://, redis-cluster:// or embedded"
	}
	hosts, path, _ := strings.Cut(rest, "/")
	switch {
	case strings.Contains(hosts, "@"):
		return form, "must hold no user and no password; set redis.username and redis.password_file"
	case strings.ContainsAny(rest, "?#"):
		return form, "must have no ?options; remove them"
	}
	switch form {
	case "redis", "rediss":
		if !hostPort(hosts) || !validDB(path) {
			return form, "must be " + form + "://host:port/db, such as " + form + "://127.0.0.1:6379/0"
		}
	case "unix":
		if hosts != "" || path == "" {
			return form, "must be unix:///path/of/the/socket"
		}
	case "redis-sentinel":
		if !hostList(hosts) || path == "" || strings.Contains(path, "/") {
			return form, "must be redis-sentinel://host1:port,host2:port/master"
		}
	case "redis-cluster":
		if !hostList(hosts) || path != "" {
			return form, "must be redis-cluster://host1:port,host2:port"
		}
	default:
		return "", "must be redis://, rediss://, unix://, redis-sentinel://, redis-cluster:// or embedded"
	}
	return form, ""
}

func hostList(list string) bool {
	for h := range strings.SplitSeq(list, ",") {
		if !hostPort(h) {
			return false
		}
	}
	return true
}

// hostPort takes host, host:port and [v6]:port.
func hostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port, err = net.SplitHostPort(s + ":1")
	}
	return err == nil && host != "" && !strings.ContainsAny(host, " ,/@") && validPort(port)
}

func validPort(port string) bool {
	n, err := strconv.Atoi(port)
	return err == nil && n >= 1 && n <= 65535
}

func validDB(path string) bool {
	n, err := strconv.Atoi(path)
	return path == "" || err == nil && n >= 0 && n <= 1_000_000
}

// addressForm is what listenAddress takes, in words.
const addressForm = "host:port, such as 127.0.0.1:8080 or :8080"

// listenAddress takes host:port and :port; port 0 lets the system choose.
func listenAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	return err == nil && !strings.ContainsAny(host, " ,/@") && (port == "0" || validPort(port))
}

func sameAddress(a, b string) bool {
	return a != "" && a == b && !strings.HasSuffix(a, ":0")
}

func loopback(listen string) bool {
	host, _, _ := net.SplitHostPort(listen)
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}
