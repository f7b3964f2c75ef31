package config

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	profileSingpass = "singpass"
	profileStandard = "standard"
)

func (r *reader) checkProvider(key, name string, p Provider, development bool) {
	r.checkName(key, name)
	if r.need(key+".issuer", p.Issuer != "", "write the provider's issuer, as its discovery document has it") {
		if text := issuerProblem(p.Issuer, development); text != "" {
			r.wrong(key+".issuer", "%s", text)
		}
	}
	r.need(key+".client_id", strings.TrimSpace(p.ClientID) != "", "write the id under which the provider knows you")
	r.need(key+".keys_file", !p.Keys.IsZero(), "name the private.jwks.json that `stepup keygen` wrote")
	r.checkCA(key+".ca_file", p.CAPEM)

	r.within(key+".poll.interval", p.Poll.Interval, time.Second, time.Minute)
	r.within(key+".poll.timeout", p.Poll.Timeout, time.Second, 40*time.Second)
	r.within(key+".poll.hold", p.Poll.Hold, 0, time.Minute)
	r.between(key+".rate.bc_auth", p.Rate.BCAuth, 0, 100_000)
	r.between(key+".rate.token", p.Rate.Token, 0, 100_000)

	switch p.Profile {
	case "":
		r.need(key+".profile", false, "write singpass or standard")
	case profileSingpass:
		r.checkSingpass(key, p, development)
	case profileStandard:
		r.checkStandard(key, p)
	default:
		r.oneOf(key+".profile", p.Profile, profileSingpass, profileStandard)
	}
}

func (r *reader) checkSingpass(key string, p Provider, development bool) {
	if p.Bind != "" {
		r.wrong(key+".bind", "is for profile standard; a Singpass token is always compared with its login_hint; remove it")
	}
	if p.Poll.Timeout < 30*time.Second && !development {
		r.wrong(key+".poll.timeout", "must be at least 30s with profile singpass, which may hold a request that long")
	}
	r.checkAlgs(key, p)
}

func (r *reader) checkStandard(key string, p Provider) {
	if p.Bind != "" {
		r.oneOf(key+".bind", p.Bind, "subject", `""`)
	}
	if !p.NRICChecksum {
		r.wrong(key+".nric_checksum", "is for profile singpass; remove it")
	}
	r.checkAlgs(key, p)
}

func (r *reader) checkAlgs(key string, p Provider) {
	known := knownAlgs(p.Profile)
	r.checkAlgList(key+".algs.signing", p.Profile, p.Algs.Signing, known.Signing)
	r.checkAlgList(key+".algs.key_management", p.Profile, p.Algs.KeyManagement, known.KeyManagement)
	r.checkAlgList(key+".algs.content", p.Profile, p.Algs.Content, known.Content)
}

func (r *reader) checkAlgList(key, profile string, listed, known []string) {
	if listed != nil && len(listed) == 0 {
		r.wrong(key, "must name at least one algorithm, or be left out for the profile's defaults")
	}
	for i, alg := range listed {
		item := fmt.Sprintf("%s[%d]", key, i)
		if !slices.Contains(known, alg) {
			r.wrong(item, "is not an algorithm of profile %s; it knows %s", profile, strings.Join(known, ", "))
		} else if slices.Index(listed, alg) < i {
			r.wrong(item, "is listed twice; remove one")
		}
	}
}
