package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"
)

// advice is what to do about each Reason.
var advice = map[string]string{
	ReasonDNS:           "Check the host's name in the URL, and that the name server of this machine knows it.",
	ReasonRefused:       "Webhooks go to public addresses only. If the receiver is in a network of yours, list that network under webhooks.allow_networks; otherwise correct the name's record.",
	ReasonDial:          "Nothing takes connections at that address and port, or a firewall is in the way: check the URL's port, that the receiver runs, and whether this machine needs a proxy to get out.",
	ReasonProxy:         "Check the webhook's proxy: its address and port, and that it lets CONNECT through to the receiver's host and port.",
	ReasonTLS:           "Let the receiver speak TLS 1.2 or 1.3 at that port, and look into its log for why it ended the handshake.",
	ReasonTimeout:       "The connection was not ready in time: check that the receiver runs, and the firewalls on the way.",
	ReasonReset:         "The receiver, or a load balancer or firewall before it, closed the connection without an answer: its log says why.",
	ReasonProtocol:      "What answers there is no HTTP server: check the URL's port and whether it must be https.",
	ReasonRedirect:      "Redirects are never followed: write the URL that it leads to into the configuration, with or without the slash at its end as the receiver wants it.",
	ReasonStatus:        "Only a 2xx is a delivery: the receiver's log says why it answered something else.",
	ReasonGone:          "410 stops an event for good: let the receiver answer it only for what it wants no more, and 2xx for all else.",
	ReasonCancelled:     "The attempt was stopped before its end, and the receiver may have the event all the same: try again.",
	ReasonConfiguration: "Nothing was sent: correct the webhook's URL, secrets_file, tls or proxy.",
}

var adviceOnStatus = map[int]string{
	http.StatusBadRequest:           "The receiver does not understand the event. If its URL is http, it may want https; if it reads the events itself, let it answer 2xx to types that it does not know.",
	http.StatusUnauthorized:         "The receiver does not believe the signature: let it verify the raw body with the key whose id stands above, look at its clock, and see whether it wants a header too (headers_file).",
	http.StatusForbidden:            "Something before the receiver, or the receiver itself, does not let the event in: it may want a header (headers_file), a client certificate (tls), or to know the address that we come from.",
	http.StatusNotFound:             "The receiver has nothing at the URL's path: check it.",
	http.StatusMethodNotAllowed:     "The receiver takes no POST at the URL's path: check it.",
	http.StatusUnsupportedMediaType: "The receiver must take application/json.",
	http.StatusTooManyRequests:      "The receiver wants fewer requests: raise its limit for this sender.",
}

const adviceOnFault = "The receiver, or a gateway before it, has a fault of its own: its log says which."

var adviceOnTLS = []struct {
	err  error
	text string
}{
	{errOwnCertificate, "Renew the client certificate in the webhook's tls.cert_file and key_file."},
	{errAnotherHost, "The receiver's certificate must name the host of the URL: correct either."},
	{errUnknownAuthority, "Put the authority that signed the receiver's certificate into the webhook's tls.ca_file, or let the receiver show the whole chain up to an authority that this machine knows."},
	{errExpired, "Let the receiver renew its certificate, and check both clocks."},
	{errInvalid, "Let the receiver use a certificate for servers, made for its host by an authority that may make it."},
	{errNoTLS, "What answers there does not speak TLS: check the URL's port."},
}

const (
	adviceNoCertificate = "The receiver wants a client certificate: give the webhook one with tls.cert_file and key_file."
	adviceRefusesOurs   = "The receiver does not take our client certificate: ask it which authority must have signed it, and for which name."
	adviceSlowAnswer    = "The receiver has the event and did not answer in time: let it answer 2xx as soon as the event is stored, and do the work after that."
)

// Advice is what the operator can do about an attempt that did not deliver; empty when it did.
func (t Trial) Advice() string {
	switch asked := t.TLS != nil && t.TLS.Asked; {
	case t.Reason == ReasonStatus && adviceOnStatus[t.Status] != "":
		return adviceOnStatus[t.Status]
	case t.Reason == ReasonStatus && t.Status >= 500:
		return adviceOnFault
	case t.Reason == ReasonTimeout && t.Sent:
		return adviceSlowAnswer
	case t.Reason == ReasonTLS:
		for _, one := range adviceOnTLS {
			if errors.Is(t.Err, one.err) {
				return one.text
			}
		}
		fallthrough
	case t.Reason == ReasonReset: // TLS 1.2 has no word for a certificate that is missing, and TLS 1.3 can say it too late
		if asked && !t.TLS.Shown {
			return adviceNoCertificate
		}
		if errors.Is(t.Err, errClientCertificate) {
			return adviceRefusesOurs
		}
	}
	return advice[t.Reason]
}

// soon is how long before its end a certificate is warned about.
const soon = 21 * 24 * time.Hour

// Warnings are what worked and may not be meant so, or not for long.
func (t Trial) Warnings() []string {
	var all []string
	warn := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	refused := 0
	for _, a := range t.Lookup.Addresses {
		if a.Refused != "" {
			refused++
		}
	}
	if refused > 0 && refused < len(t.Lookup.Addresses) {
		warn("%d of the name's %d addresses are never connected to; whoever keeps the name's records should take them out", refused, len(t.Lookup.Addresses))
	}
	if t.Proxy != "" {
		warn("the proxy looks up the receiver's name and connects to it; that it refuses private addresses is its to see to")
	}
	switch {
	case t.TLS == nil && t.Sent:
		warn("the event was sent without TLS: whoever is on the way can read and change it")
	case t.TLS == nil:
	case t.TLS.Configured && !t.TLS.Asked && t.TLS.Err == nil:
		warn("a client certificate is configured and the receiver did not ask for one: it does not check who speaks to it")
	case t.TLS.Asked && !t.TLS.Configured:
		warn("the receiver asked for a client certificate and none is configured")
	}
	if t.TLS != nil && t.TLS.Err == nil && time.Until(t.TLS.Until) < soon {
		warn("the receiver's certificate ends on %s", t.TLS.Until.UTC().Format(time.DateOnly))
	}
	if t.TLS != nil && !t.TLS.OwnUntil.IsZero() && time.Until(t.TLS.OwnUntil) < soon {
		warn("our client certificate ends on %s", t.TLS.OwnUntil.UTC().Format(time.DateOnly))
	}
	return all
}

// judged says of an address what the guard would do with a connection to it.
func (g guard) judged(addr netip.Addr) JudgedAddress {
	if g.allowed(addr) {
		return JudgedAddress{Addr: addr}
	}
	return JudgedAddress{addr, whyRefused(addr)}
}

func whyRefused(addr netip.Addr) string {
	inner, leads := embedded(addr)
	switch addr = addr.Unmap(); {
	case addr.Zone() != "":
		return "it has a zone, so it leads nowhere but within one network"
	case addr.IsLoopback():
		return "it is this machine itself"
	case addr.IsPrivate():
		return "it is in a private network"
	case addr.IsLinkLocalUnicast():
		return "it is link-local, where clouds keep their metadata"
	case addr.IsMulticast(), addr.IsLinkLocalMulticast():
		return "it is for multicast"
	case leads:
		return "it leads to " + inner.String()
	}
	return "it is in a network for special purposes"
}
