package config

import (
	"net/netip"
	"time"
)

// presetter fills in defaults before the file's values are read, also for each member of a map or list.
type presetter interface{ preset() }

func (c *Config) preset() {
	c.Listen = Listen{API: "127.0.0.1:8080", Admin: "127.0.0.1:8081"}
	c.Redis = Redis{URL: "redis://127.0.0.1:6379/0", Shards: 8}
	c.Worker = Worker{MaxInFlight: 10_000, MaxInFlightTotal: 100_000}
	c.Webhooks = Webhooks{Timeout: 15 * time.Second}
	c.Limits = Limits{
		PerPerson: PersonLimits{InFlight: 1, PerHour: 10},
		PerCaller: CallerLimits{Rate: 50, Burst: 100},
	}
	c.ResultTTL = 15 * time.Minute
}

func (p *Provider) preset() {
	p.IDTokenEncrypted = true
	p.NRICChecksum = true
	p.Poll = Poll{Interval: 5 * time.Second, Timeout: 40 * time.Second}
}

func (w *Webhook) preset() {
	w.Events = []string{anyEvent}
	w.Content = contentFull
}

// settle fills in what depends on other members; it runs after everything is read.
func (c *Config) settle() {
	if c.Development && len(c.Webhooks.AllowNetworks) == 0 {
		c.Webhooks.AllowNetworks = developmentNetworks()
	}
	for name, p := range c.Providers {
		if p.Audience == "" {
			p.Audience = p.Issuer
		}
		p.Algs = p.Algs.or(profileAlgs(p.Profile))
		c.Providers[name] = p
	}
}

func (a Algs) or(d Algs) Algs {
	if a.Signing == nil {
		a.Signing = d.Signing
	}
	if a.KeyManagement == nil {
		a.KeyManagement = d.KeyManagement
	}
	if a.Content == nil {
		a.Content = d.Content
	}
	return a
}

// singpassAlgs are what Singpass's discovery lists for ID tokens.
func singpassAlgs() Algs {
	return Algs{
		Signing:       []string{"ES256"},
		KeyManagement: []string{"ECDH-ES+A128KW", "ECDH-ES+A192KW", "ECDH-ES+A256KW"},
		Content:       []string{"A256CBC-HS512"},
	}
}

// profileAlgs are a profile's defaults. RS256 is known, but never a default: it must be listed.
func profileAlgs(profile string) Algs {
	a := singpassAlgs()
	if profile == profileStandard {
		a.Signing = append(a.Signing, "PS256")
		a.KeyManagement = append(a.KeyManagement, "RSA-OAEP-256")
		a.Content = append(a.Content, "A128GCM", "A256GCM", "A128CBC-HS256")
	}
	return a
}

// knownAlgs are all that a file may list for a profile.
func knownAlgs(profile string) Algs {
	a := profileAlgs(profile)
	if profile == profileStandard {
		a.Signing = append(a.Signing, "ES384", "ES512", "RS256")
	}
	return a
}

func developmentNetworks() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
		netip.MustParsePrefix("fc00::/7"),
	}
}
