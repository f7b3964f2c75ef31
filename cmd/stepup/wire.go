package main

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"stepup/ciba"
	"stepup/ciba/jose"
	"stepup/config"
	"stepup/webhook"
	"stepup/worker"
	"stepup/worker/api"
)

// parts is what a configuration comes to: everything that a reload swaps. serve, check and reload make it the same way.
type parts struct {
	worker.Unsaid
	cfg      *config.Config
	settings worker.Settings
	exports  config.Exports          // where telemetry is sent
	clients  map[string]*ciba.Client // by provider
	callers  *api.Callers

	routes      map[routeKey]*http.Client // to webhooks
	webhookKeys []byte                    // the public keys of everybody's webhooks, as they are published

	apiTLS, adminTLS *tls.Config      // nil: plain HTTP
	operators        *api.Authorities // whose certificates open the admin listener; nil: nobody's
}

// load reads the configuration and everything it names. Every mistake is told at once, as config.Problems. Providers that
// are the same as in old keep their client, and with it what it knows of the provider; old may be nil.
func load(path string, environ []string, old *parts) (*parts, error) {
	cfg, err := config.Load(path, environ)
	var found config.Problems
	if p, ok := errors.AsType[config.Problems](err); ok {
		found = p
	} else if err != nil {
		return nil, err
	}
	w := wiring{path: path, told: len(found) > 0, old: old, parts: &parts{
		cfg: cfg, clients: map[string]*ciba.Client{}, routes: map[routeKey]*http.Client{},
	}}
	w.providers()
	w.sealer()
	w.callers(w.listeners())
	w.limits()
	w.auditFile(found)
	w.exports, _ = cfg.Telemetry.Exports(environ) // config has told what is wrong with it
	if found = append(found, w.problems...); len(found) > 0 {
		slices.SortStableFunc(found, func(a, b config.Problem) int { return cmp.Compare(a.Line, b.Line) })
		return nil, found
	}
	return w.parts, nil
}

// wiring makes parts and collects what is wrong inside the files that the configuration names. A file that is missing is
// config's to tell, and left out here.
type wiring struct {
	*parts
	old      *parts // nil at the start
	path     string
	told     bool // config has found mistakes: what only follows from them is not told again
	problems config.Problems
}

// wrong notes mistakes in the content of a secret file, one a line of err, at the line that names the file.
func (w *wiring) wrong(key string, s config.Secret, err error) {
	for text := range strings.Lines(err.Error()) {
		w.problems = append(w.problems, config.Problem{
			File: w.path, Line: s.Line(), Key: key, Text: fmt.Sprintf("in %s: %s", s.Path(), strings.TrimSpace(text)),
		})
	}
}

func (w *wiring) providers() {
	w.settings.Providers = map[string]worker.ProviderSettings{}
	for _, name := range slices.Sorted(maps.Keys(w.cfg.Providers)) {
		p := w.cfg.Providers[name]
		if p.Keys.IsZero() {
			continue
		}
		client := keptClient(w.old, w.cfg.Development, name, p)
		if client == nil {
			client = w.client(name, p)
		}
		if client == nil {
			continue
		}
		w.clients[name] = client
		w.settings.Providers[name] = worker.ProviderSettings{
			Provider: worker.CIBA{Client: client}, Interval: p.Poll.Interval, Hold: p.Poll.Hold, Paused: p.Paused,
			Rate: worker.Rate{Ask: float64(p.Rate.BCAuth), Answer: float64(p.Rate.Token)},
		}
	}
}

// keptClient is old's client for a provider that has not changed, else nil. It has the provider's endpoints and keys in
// hand: a reload during the provider's outage must not lose them.
func keptClient(old *parts, development bool, name string, p config.Provider) *ciba.Client {
	if old == nil || old.cfg.Development != development {
		return nil
	}
	before, ok := old.cfg.Providers[name]
	if !ok || !bytes.Equal(before.Keys.Bytes(), p.Keys.Bytes()) {
		return nil
	}
	plain := func(p config.Provider) config.Provider {
		// What is not the client's: the rhythm but for the time-out, and secrets, which are compared above.
		p.Keys, p.Paused, p.Poll, p.Rate = config.Secret{}, false, config.Poll{Timeout: p.Poll.Timeout}, config.Rate{}
		return p
	}
	if !reflect.DeepEqual(plain(before), plain(p)) {
		return nil
	}
	return old.clients[name]
}

// client makes the client of one provider; nil and a problem if its keys are of no use.
func (w *wiring) client(name string, p config.Provider) *ciba.Client {
	key := "providers." + name
	keys, err := jose.ReadKeys(p.Keys.Bytes())
	if err != nil {
		w.wrong(key+".keys_file", p.Keys, err)
		return nil
	}
	if p.IDTokenEncrypted && !keys.CanDecrypt() {
		w.wrong(key+".keys_file", p.Keys, errors.New("no key with use enc, but id_token is encrypted; add one with `stepup keygen --rotate enc`, or set id_token: signed"))
		return nil
	}
	httpClient, err := ciba.NewHTTPClient(p.CAPEM)
	if err != nil {
		return nil // config has told what is wrong with ca_file
	}
	client, err := ciba.New(ciba.Config{
		Name: name, Issuer: p.Issuer, ClientID: p.ClientID, Audience: p.Audience, Profile: ciba.Profile(p.Profile),
		Keys: keys, Encrypted: p.IDTokenEncrypted,
		Algs: jose.Algs{Signing: p.Algs.Signing, KeyManagement: p.Algs.KeyManagement, Content: p.Algs.Content},
		Bind: p.Bind == "subject", Evidence: p.Evidence, NRICChecksum: p.NRICChecksum,
		HTTP: httpClient, AllowHTTP: w.cfg.Development, TokenTimeout: p.Poll.Timeout,
	})
	if err != nil && !w.told {
		w.problems = append(w.problems, config.Problem{File: w.path, Line: p.Keys.Line(), Key: key, Text: err.Error()})
	}
	return client
}

func (w *wiring) sealer() {
	keys := w.cfg.Seal.Keys
	if keys.IsZero() {
		return
	}
	sealer, err := worker.ParseSealKeys(keys.Bytes())
	if err != nil {
		w.wrong("seal.keys_file", keys, err)
	}
	w.settings.Sealer = sealer
}

func (w *wiring) callers(authorities *api.Authorities) {
	edge := map[string]api.Caller{}
	owners := map[api.KeyHash]string{}
	w.settings.Callers = map[string]worker.Caller{}
	var secrets []webhook.Secret
	for _, name := range slices.Sorted(maps.Keys(w.cfg.Callers)) {
		c := w.cfg.Callers[name]
		key := "callers." + name
		edge[name] = api.Caller{Keys: w.apiKeys(name, c.APIKeys, owners), SANs: c.CertificateSANs}
		hooks := w.webhooks(key, c.Webhooks)
		w.settings.Callers[name] = worker.Caller{Providers: c.Providers, MayList: c.MayList, Paused: c.Paused, Webhooks: hooks}
		for _, h := range hooks {
			secrets = append(secrets, h.Endpoint.Secrets...)
		}
	}
	w.webhookKeys = webhook.KeySet(secrets)
	set, err := api.NewCallers(edge, authorities)
	if err != nil && !w.told {
		w.problems = append(w.problems, config.Problem{File: w.path, Key: "callers", Text: err.Error()})
	}
	w.parts.callers = set
}

// apiKeys are a caller's keys. owners are the callers that had theirs before; a key of two callers is told at the second.
func (w *wiring) apiKeys(caller string, file config.Secret, owners map[api.KeyHash]string) []api.KeyHash {
	if file.IsZero() {
		return nil
	}
	hashes, err := api.ParseAPIKeys(file.Bytes())
	for _, h := range hashes {
		if other, taken := owners[h]; taken && other != caller {
			hashes, err = nil, errors.Join(err, fmt.Errorf("holds a key of caller %s too; give each caller its own, `stepup apikey` makes one", other))
			break
		}
		owners[h] = caller
	}
	if err != nil {
		w.wrong("callers."+caller+".api_keys_file", file, err)
	}
	return hashes
}

// listeners returns whose certificates may be a caller's. Whether a listener speaks TLS is fixed at the start: where it does,
// and the file no longer has a certificate, the old one stays in use.
func (w *wiring) listeners() (callers *api.Authorities) {
	callers, w.operators = clientAuthorities(w.cfg.Listen.TLS), clientAuthorities(w.cfg.Listen.AdminTLS)
	w.apiTLS, w.adminTLS = serverTLS(w.cfg.Listen.TLS, callers), serverTLS(w.cfg.Listen.AdminTLS, w.operators)
	if w.old != nil {
		w.apiTLS, w.adminTLS = cmp.Or(w.apiTLS, w.old.apiTLS), cmp.Or(w.adminTLS, w.old.adminTLS)
	}
	return callers
}

func clientAuthorities(t config.ServerTLS) *api.Authorities {
	if t.ClientCA == nil {
		return nil
	}
	return api.ParseAuthorities(t.ClientCA)
}

// serverTLS is nil where no certificate is configured. config has checked that the halves match.
func serverTLS(t config.ServerTLS, clients *api.Authorities) *tls.Config {
	if t.Cert == nil || t.Key.IsZero() {
		return nil
	}
	pair, err := tls.X509KeyPair(t.Cert, t.Key.Bytes())
	if err != nil {
		return nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}
	if clients != nil {
		c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, clients.Pool()
		c.SessionTicketsDisabled = true // a resumed session brings its certificate along unverified
	}
	return c
}

func (w *wiring) limits() {
	s, c := &w.settings, w.cfg
	s.Sender = &webhook.Sender{Client: w.route(config.Webhook{}), Timeout: c.Webhooks.Timeout}
	s.PersonInFlight, s.PersonPerHour = c.Limits.PerPerson.InFlight, c.Limits.PerPerson.PerHour
	s.CallerRate, s.CallerBurst = float64(c.Limits.PerCaller.Rate), c.Limits.PerCaller.Burst
	s.PersonsPerCaller = c.Limits.PerCaller.PersonsPerHour
	s.ResultTTL, s.PurgeOnDelivery = c.ResultTTL, c.PurgeOnDelivery
}

// auditFile finds out before the file is needed whether lines could be added to it, unless config has told what is wrong.
func (w *wiring) auditFile(found config.Problems) {
	const key = "audit_file"
	if w.cfg.AuditFile == "" || slices.ContainsFunc(found, func(p config.Problem) bool { return p.Key == key }) {
		return
	}
	if err := worker.CheckAudit(w.cfg.AuditFile); err != nil {
		w.problems = append(w.problems, config.Problem{
			File: w.path, Line: config.Line(w.path, key), Key: key, Text: fmt.Sprintf("names the file %s, which cannot be used: %v", w.cfg.AuditFile, err),
		})
	}
}

// publicKeys are what we publish for a provider.
func (p *parts) publicKeys(provider string) ([]byte, bool) {
	c, ok := p.clients[provider]
	if !ok {
		return nil, false
	}
	return c.PublicKeys(), true
}

func (p *parts) providerNames() []string { return slices.Sorted(maps.Keys(p.clients)) }
