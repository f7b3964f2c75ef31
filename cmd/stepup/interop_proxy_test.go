package main_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// badWire is toxiproxy between the service and a provider: a wire that can be made to fail. Toxics are never changed under
// live connections, which toxiproxy 2.5.0 does not survive; each fault is a proxy of its own, at the same place.
type badWire struct {
	t      testing.TB
	server *toxiproxy.ApiServer
	proxy  *toxiproxy.Proxy // nil while the wire is down
	near   string           // 127.0.0.1:PORT, where the service finds the provider
	far    string           // where it is
	hits   map[string]int   // how often each fault was put on
}

// newWire finds a place for the near end, so that the provider can take it as its name.
func newWire(t testing.TB) *badWire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	b := &badWire{t: t, near: l.Addr().String(), hits: map[string]int{}}
	b.server = toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	t.Cleanup(b.take)
	return b
}

// take cuts the wire.
func (b *badWire) take() {
	if b.proxy != nil {
		b.proxy.Stop()
	}
	b.proxy = nil
}

// lay lays the wire anew, with a fault.
func (b *badWire) lay(f fault, r *rand.Rand) {
	b.take()
	if b.hits[f.name]++; f.name == "down" {
		return
	}
	p := toxiproxy.NewProxy(b.server, "provider", b.near, b.far)
	for i, toxic := range f.toxics {
		if strings.Contains(toxic, "%d") {
			toxic = fmt.Sprintf(toxic, 1+r.IntN(1500)) // from within the first line to behind the body
		}
		toxic = fmt.Sprintf(`{"name":"%d",`, i) + toxic[1:]
		if _, err := p.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
			b.t.Errorf("toxic %s: %v", toxic, err)
		}
	}
	if err := p.Start(); err != nil {
		b.t.Errorf("laying the wire: %v", err)
	}
	b.proxy = p
}

// upstreamLate is the longest that a request is held up on the wire and still arrives.
const upstreamLate = 100 * time.Millisecond

// fault is toxics that lie on the wire together, for a while. A toxic that is `some` of the connections' leaves the others
// alone; `stream` is downstream unless it says otherwise.
type fault struct {
	name   string
	toxics []string
	lasts  time.Duration
}

var whole = fault{"nothing", nil, 500 * time.Millisecond}

// faults are what a wire does. Each change cuts what was open on it.
var faults = []fault{
	whole,
	{"latency", []string{`{"type":"latency","attributes":{"latency":150,"jitter":140}}`,
		`{"type":"latency","stream":"upstream","attributes":{"latency":50,"jitter":50}}`}, time.Second},
	{"reset answers", []string{`{"type":"reset_peer","toxicity":0.5,"attributes":{"timeout":0}}`}, 500 * time.Millisecond},
	{"reset requests", []string{`{"type":"reset_peer","stream":"upstream","toxicity":0.5,"attributes":{"timeout":20}}`}, 500 * time.Millisecond},
	{"half-open, no answers", []string{`{"type":"timeout","toxicity":0.5,"attributes":{"timeout":0}}`}, 2500 * time.Millisecond},
	{"half-open, no requests", []string{`{"type":"timeout","stream":"upstream","toxicity":0.5,"attributes":{"timeout":0}}`}, 2500 * time.Millisecond},
	{"cut answers", []string{`{"type":"limit_data","toxicity":0.5,"attributes":{"bytes":%d}}`}, 800 * time.Millisecond},
	{"cut requests", []string{`{"type":"limit_data","stream":"upstream","toxicity":0.5,"attributes":{"bytes":%d}}`}, 800 * time.Millisecond},
	{"half-closed", []string{`{"type":"limit_data","toxicity":0.5,"attributes":{"bytes":%d}}`, `{"type":"slow_close","attributes":{"delay":700}}`}, time.Second},
	{"down", nil, 600 * time.Millisecond},
}

// rage puts one fault after the other on the wire until the time is over, in an order that the seed decides: each once,
// then each again. Which connections a fault hits is toxiproxy's to throw. Then the wire is whole.
func (b *badWire) rage(seed uint64, over <-chan struct{}) {
	r := rand.New(rand.NewPCG(seed, seed))
	defer b.lay(whole, r)
	for {
		for _, i := range r.Perm(len(faults)) {
			b.lay(faults[i], r)
			lasts := time.NewTimer(faults[i].lasts/2 + time.Duration(r.Int64N(int64(faults[i].lasts))))
			select {
			case <-lasts.C:
			case <-over:
				lasts.Stop()
				return
			}
		}
	}
}

// raging rages until the function that it returns is called; that one returns when the wire is whole.
func (b *badWire) raging(seed uint64) (stop func()) {
	over := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() { b.rage(seed, over) })
	return func() { close(over); done.Wait() }
}
