package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	contentFull      = "full"
	contentReference = "reference"
	contentEncrypted = "encrypted"

	anyEvent      = "step_up.*"
	approvedEvent = "step_up.approved"
)

var events = []string{
	anyEvent, approvedEvent, "step_up.denied", "step_up.expired", "step_up.cancelled", "step_up.failed", "step_up.unknown",
	"step_up.delivery_expired",
}

func (r *reader) checkCaller(key, name string, caller Caller, c *Config) {
	r.checkName(key, name)
	known := !caller.APIKeys.IsZero() || len(caller.CertificateSANs) > 0 || r.told(key+".certificate_sans")
	r.need(key+".api_keys_file", known, "name a file with the lines that `stepup apikey` prints, or set certificate_sans")
	r.need(key+".providers", len(caller.Providers) > 0, "name the providers that this caller may ask")
	for i, p := range caller.Providers {
		item := fmt.Sprintf("%s.providers[%d]", key, i)
		if _, ok := c.Providers[p]; !ok && !r.bad["providers"] {
			known := slices.Collect(maps.Keys(c.Providers))
			r.wrong(item, "names no provider of this file%s", cmp.Or(didYouMean(p, known), "; add it under providers or remove it"))
		} else if slices.Index(caller.Providers, p) < i {
			r.wrong(item, "is listed twice; remove one")
		}
	}
	first := map[string]int{}
	for i, w := range caller.Webhooks {
		hook := fmt.Sprintf("%s.webhooks[%d]", key, i)
		r.checkWebhook(hook, w, c)
		if j, twice := first[w.Name]; twice && w.Name != "" {
			r.wrong(hook+".name", "is the name of webhooks[%d] too; give each its own", j)
		} else {
			first[w.Name] = i
		}
	}
	if c.PurgeOnDelivery && !slices.ContainsFunc(caller.Webhooks, carriesIdentity) {
		r.wrong(key+".webhooks", "has no webhook with `content: full` or `content: encrypted` for step_up.approved, so with purge_on_delivery nobody would be told who approved; add one or set purge_on_delivery: false")
	}
}

func carriesIdentity(w Webhook) bool {
	return (w.Content == contentFull || w.Content == contentEncrypted) && (slices.Contains(w.Events, anyEvent) || slices.Contains(w.Events, approvedEvent))
}

// checkRoute judges what a webhook has of its own to be reached by.
func (r *reader) checkRoute(key string, w Webhook, c *Config) {
	r.checkPair(key+".tls", w.TLS.Cert, w.TLS.Key)
	r.checkCA(key+".tls.ca_file", w.TLS.CA)
	plain := c.Development && strings.HasPrefix(strings.ToLower(w.URL), "http://") // otherwise the URL is told
	if set := w.TLS.CA != nil || w.TLS.Cert != nil || !w.TLS.Key.IsZero(); set && plain {
		r.wrong(key+".tls", "has no effect with an http:// url; write https:// or remove it")
	}
	switch text := proxyProblem(w.Proxy, c); {
	case w.Proxy == "":
	case text == privateHook && r.toldBelow("webhooks.allow_networks"):
	case text != "":
		r.wrong(key+".proxy", "%s", text)
	case plain:
		r.wrong(key+".proxy", "would read the events of an http:// url; write https:// there or remove it")
	}
}

func (r *reader) checkWebhook(key string, w Webhook, c *Config) {
	if r.need(key+".name", w.Name != "", "name the webhook") {
		r.checkName(key+".name", w.Name)
	}
	if w.Pull {
		r.checkPull(key, w)
	} else if !r.told(key + ".pull") {
		r.checkPush(key, w, c)
	}
	if len(w.Events) == 0 {
		r.wrong(key+".events", "must name at least one type, or be left out for %s", anyEvent)
	}
	for i, e := range w.Events {
		item := fmt.Sprintf("%s.events[%d]", key, i)
		if !slices.Contains(events, e) {
			r.wrong(item, "is not an event type%s", cmp.Or(didYouMean(e, slices.Clone(events)), "; write step_up.* or types such as step_up.approved"))
		} else if slices.Index(w.Events, e) < i {
			r.wrong(item, "is listed twice; remove one")
		}
	}
	r.checkContent(key, w)
}

// checkPush judges a webhook that we send to.
func (r *reader) checkPush(key string, w Webhook, c *Config) {
	if r.need(key+".url", w.URL != "", "write the receiver's https:// address, or pull: true where the caller fetches its events") {
		text := webhookProblem(w.URL, c)
		if follows := text == privateHook && r.toldBelow("webhooks.allow_networks"); text != "" && !follows {
			r.wrong(key+".url", "%s", text)
		}
	}
	r.checkRoute(key, w, c)
	r.need(key+".secrets_file", !w.Secrets.IsZero(), "name a file with a `whsec_…` line")
}

// checkPull judges a webhook that we do not send to, and so never sign for.
func (r *reader) checkPull(key string, w Webhook) {
	for name, set := range map[string]bool{
		"url": w.URL != "", "secrets_file": !w.Secrets.IsZero(), "headers_file": !w.Headers.IsZero(), "proxy": w.Proxy != "",
		"tls": w.TLS.CA != nil || w.TLS.Cert != nil || !w.TLS.Key.IsZero(),
	} {
		if set {
			r.wrong(key+"."+name, "has no effect with pull: true, where nothing is sent and the caller fetches its events; remove it, or remove pull")
		}
	}
}

func (r *reader) checkContent(key string, w Webhook) {
	r.oneOf(key+".content", w.Content, contentFull, contentReference, contentEncrypted)
	switch {
	case w.Content == contentEncrypted:
		r.need(key+".encrypt_to_file", w.EncryptTo != nil, "name a file with the receiver's public JSON Web Key Set; "+
			"`stepup keygen --webhook FILE --kind encryption` prints it for the receiver")
	case w.EncryptTo != nil && !r.told(key+".content"):
		r.wrong(key+".encrypt_to_file", "encrypts nothing with content: %s; write content: encrypted or remove it", w.Content)
	}
}
