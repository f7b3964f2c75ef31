package main

import (
	"bytes"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stepup/webhook"
)

// The plain sender sends what the service has sent, each time as another event, so that the same receiver takes it; what is refused is counted.
func TestPlainSender(t *testing.T) {
	more, _ := webhook.NewKeyPair()
	in, err := openInbox(more)
	if err != nil {
		t.Fatal(err)
	}
	defer in.close()
	o := order{
		URL: in.url, Secrets: in.secret, For: 300 * time.Millisecond,
		Body: []byte(`{"type":"step_up.approved","data":{"id":"su_00XYZ","reference":"12345678"}}`), Mark: "12345678",
	}
	if len(in.secrets) != 2 {
		t.Fatalf("%d secrets sign, want both", len(in.secrets))
	}
	for _, rate := range []int{0, 100} {
		o.Rate = rate
		s, err := plainly(t.Context(), o, t.Output())
		if err != nil {
			t.Fatal(err)
		}
		if s.Failed > 0 || len(s.Due) != in.count() || rate > 0 && len(s.Due) != 30 || len(s.Due) == 0 {
			t.Errorf("at %d a second: %d sent, %d failed, %d received", rate, len(s.Due), s.Failed, in.count())
		}
		marks := map[string]string{}
		for mark := range s.Due {
			marks[mark] = mark
		}
		if all := after(s.Due, marks, in.took()); len(all) != len(s.Due) || all[0] < 0 || all[len(all)-1] > 10*time.Second {
			t.Errorf("at %d a second: %d of %d have a time", rate, len(all), len(s.Due))
		}
		if last := in.last(); len(last.body) != len(o.Body) || len(last.mark) != len(o.Mark) {
			t.Errorf("at %d a second: sent %s", rate, last.body)
		}
		in.forget()
	}
	o.Secrets = webhook.NewSecret()
	if s, err := plainly(t.Context(), o, t.Output()); err != nil || s.Failed != 30 || in.count() != 0 {
		t.Errorf("with a foreign secret: %d failed, %d received, %v", s.Failed, in.count(), err)
	}
	o.Secrets = "none"
	if _, err := plainly(t.Context(), o, t.Output()); err == nil {
		t.Error("an order that cannot be carried out is not told")
	}
}

// Bad endpoints are as bad as their names: who sends to them learns it by its own time-out, an answer or an end that it makes itself.
func TestMisbehaviours(t *testing.T) {
	var followed atomic.Int64
	sender := &webhook.Sender{Client: webhook.NewClient([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}), Timeout: 300 * time.Millisecond}
	want := map[string]string{"hung": webhook.ReasonTimeout, "redirecting": webhook.ReasonRedirect, "endless": ""}
	for _, m := range misbehaviours(&followed) {
		in, err := openInbox("")
		if err != nil {
			t.Fatal(err)
		}
		in.bad.Store(&m.serve)
		a := sender.Send(t.Context(), webhook.Endpoint{URL: in.url, Secrets: in.secrets}, webhook.Message{ID: "evt_1", Body: []byte("{}")})
		if reason, known := want[m.name]; !known || a.Reason != reason {
			t.Errorf("%s: %v %s, want %q", m.name, a.Outcome, a.Reason, reason)
		}
		if m.name != "redirecting" && a.Duration < 300*time.Millisecond {
			t.Errorf("%s held its sender for %v", m.name, a.Duration)
		}
		in.close()
	}
	if followed.Load() != 0 {
		t.Error("a redirect was followed")
	}
	if res, err := http.Get(redirecting(t, misbehaviours(&followed))); err == nil {
		res.Body.Close()
	}
	if followed.Load() == 0 {
		t.Error("a redirect that is followed is not counted")
	}
}

func redirecting(t *testing.T, all []misbehaviour) (url string) {
	t.Helper()
	in, err := openInbox("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.close)
	i := slices.IndexFunc(all, func(m misbehaviour) bool { return m.name == "redirecting" })
	in.bad.Store(&all[i].serve)
	return in.url
}

// The rate of approvals is that of the middle, which the first and the last do not stretch; the rate of deliveries is that of all.
func TestRates(t *testing.T) {
	at := map[string]time.Time{"first": time.Unix(0, 0), "last": time.Unix(1000, 0)}
	for i := range 100 {
		at[strings.Repeat("i", i+1)] = time.Unix(500, 0).Add(time.Duration(i) * 10 * time.Millisecond)
	}
	if got := middle(at); got < 99 || got > 101 {
		t.Errorf("%v a second, want 100", got)
	}
	if got := whole(map[string]time.Time{"first": time.Unix(900, 0), "second": time.Unix(990, 0)}, at); got != 1.02 {
		t.Errorf("%v a second, want 102 in 100 s", got)
	}
	if got := whole(at, nil); got != 0 {
		t.Errorf("%v a second out of none", got)
	}
	if got := middle(map[string]time.Time{"one": time.Unix(1, 0)}); got != 0 {
		t.Errorf("%v a second out of one", got)
	}
}

// What turns came to is held against the turns without bad endpoints, in the column of those with them alone.
func TestEndpointTable(t *testing.T) {
	ms := func(all ...int) (list []time.Duration) {
		for _, n := range all {
			list = append(list, time.Duration(n)*time.Millisecond)
		}
		return list
	}
	without, with := &street{name: "without"}, &street{name: "with", bad: true}
	turn := &street{name: "with, turn 1", bad: true, told: ms(6, 2), missing: 1, came: []int64{7, 8, 9}}
	without.add(&street{told: ms(4, 1)})
	with.add(turn)
	with.add(&street{told: ms(1)})
	b := &bench{}
	var out bytes.Buffer
	got := b.endpointTable([]*street{without, with, turn}, misbehaviours(nil))
	if err := (tables{got}).print(&out, "text"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]float64{
		rowBesideBad: {-1, 1.5, -1}, "webhooks": {2, 3, 2}, rowMissing: {0, 1, 1}, "requests at the one that is hung": {-1, -1, 7},
	} {
		for column, v := range want {
			if found, ok := got.value(name, column); ok != (v >= 0) || ok && found != v {
				t.Errorf("%s, %s: %v %v, want %v", name, got.Columns[column], found, ok, v)
			}
		}
	}
	if t.Failed() {
		t.Logf("%s", &out)
	}
}
