package main

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"stepup/config"
	"stepup/webhook"
	"stepup/worker"
)

// routeKey is a digest of everything that a webhook client is made of: equal keys, equal clients.
type routeKey [sha256.Size]byte

func keyOfRoute(c config.Webhooks, h config.Webhook) routeKey {
	digest := sha256.New()
	for _, part := range [][]byte{fmt.Append(nil, c.AllowNetworks), h.TLS.CA, h.TLS.Cert, h.TLS.Key.Bytes(), []byte(h.Proxy)} {
		digest.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		digest.Write(part)
	}
	return routeKey(digest.Sum(nil))
}

// route is the client for a webhook's way to its receiver, one for all webhooks that go the same way. It outlives a reload
// that does not change it, and with it its connections. Nil where config has told what is wrong.
func (w *wiring) route(h config.Webhook) *http.Client {
	key := keyOfRoute(w.cfg.Webhooks, h)
	client := w.routes[key]
	if client == nil && w.old != nil {
		client = w.old.routes[key]
	}
	if client == nil {
		var err error
		if client, err = newRoute(w.cfg.Webhooks, h); err != nil {
			if !w.told {
				w.problems = append(w.problems, config.Problem{File: w.path, Key: "callers", Text: fmt.Sprintf("webhook %s: %v", h.Name, err)})
			}
			return nil
		}
	}
	w.routes[key] = client
	return client
}

func newRoute(c config.Webhooks, h config.Webhook) (*http.Client, error) {
	trust, err := clientTLS(h.TLS)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	var proxy *url.URL
	if h.Proxy != "" {
		if proxy, err = url.Parse(h.Proxy); err != nil {
			return nil, errors.New("proxy: is not a URL") // err would quote it
		}
	}
	return webhook.NewRoutedClient(c.AllowNetworks, webhook.Route{TLS: trust, Proxy: proxy}), nil
}

func (w *wiring) webhooks(key string, hooks []config.Webhook) []worker.Webhook {
	var all []worker.Webhook
	for i, h := range hooks {
		key := fmt.Sprintf("%s.webhooks[%d]", key, i)
		hook := worker.Webhook{Name: h.Name, Events: h.Events, Reference: h.Content == "reference", Encrypt: w.recipient(key, h), Pull: h.Pull}
		if !h.Pull {
			hook.Endpoint = w.endpoint(key, h)
		}
		all = append(all, hook)
	}
	return all
}

// endpoint is where a webhook goes. What the file leaves out is left out here: config has told it.
func (w *wiring) endpoint(key string, h config.Webhook) webhook.Endpoint {
	endpoint := webhook.Endpoint{URL: h.URL, Client: w.route(h)}
	var err error
	if !h.Headers.IsZero() {
		if endpoint.Headers, err = webhook.ParseHeaders(h.Headers.Bytes()); err != nil {
			w.wrong(key+".headers_file", h.Headers, err)
		}
	}
	if !h.Secrets.IsZero() {
		if endpoint.Secrets, err = webhook.ParseSecrets(h.Secrets.Bytes()); err != nil {
			w.wrong(key+".secrets_file", h.Secrets, err)
		}
	}
	return endpoint
}

// recipient is whom a webhook's content is encrypted to; nil for other content. The file is read again at every reload.
func (w *wiring) recipient(key string, h config.Webhook) *webhook.Recipient {
	if h.Content != "encrypted" || h.EncryptTo == nil {
		return nil
	}
	key += ".encrypt_to_file"
	to, err := webhook.ParseRecipient(h.EncryptTo)
	if err != nil {
		line := config.Line(w.path, key)
		for text := range strings.Lines(err.Error()) {
			w.problems = append(w.problems, config.Problem{File: w.path, Line: line, Key: key, Text: strings.TrimSpace(text)})
		}
	}
	return to
}
