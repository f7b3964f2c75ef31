package main

import (
	"errors"
	"slices"
	"testing"
	"time"

	"stepup/ciba/cibatest"
)

var t0 = time.Date(2026, 11, 21, 2, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return t0.Add(time.Duration(seconds * float64(time.Second))) }

// TestInherited: only what the victim polled last counts as its own, and only the heir's next poll ends the pause.
func TestInherited(t *testing.T) {
	sent := map[string][]send{
		"taken over":  {{at(1), "a"}, {at(6), "a"}, {at(17), "b"}, {at(22), "b"}},
		"heir's own":  {{at(2), "b"}, {at(7), "b"}, {at(12), "b"}},
		"given over":  {{at(2), "a"}, {at(7), "b"}, {at(12), "b"}},
		"left alone":  {{at(3), "a"}, {at(8), "a"}},
		"new":         {{at(12), "a"}},
		"came back":   {{at(4), "a"}, {at(25), "a"}},
		"later still": {{at(9), "a"}, {at(18), "b"}},
	}
	owned, pauses := inherited(sent, at(10), "a", "b")
	slices.Sort(pauses)
	if want := (spread{7 * time.Second, 8 * time.Second}); owned != 4 || !slices.Equal(pauses, want) {
		t.Errorf("%d owned, pauses %v, want 4 and %v", owned, []time.Duration(pauses), []time.Duration(want))
	}
}

// TestHandOvers: a pause counts from an answer to the next poll, where that is another process's.
func TestHandOvers(t *testing.T) {
	r := cibatest.Request{AuthReqID: "x", Pushed: at(0), Tokens: []time.Time{at(20)}, Polls: []cibatest.Poll{
		{Arrived: at(1), Answered: at(2)}, {Arrived: at(7), Answered: at(8)}, {Arrived: at(13.5), Answered: at(20)}}}
	sent := map[string][]send{"x": {{at(1), "a"}, {at(7), "a"}, {at(13.5), "b"}}}
	if got := handOvers(sent, []cibatest.Request{r}); len(got) != 1 || got[0] != 5500*time.Millisecond {
		t.Errorf("pauses %v, want 5.5s", got)
	}
	later := cibatest.Request{Pushed: at(19), Tokens: []time.Time{at(30)}}
	alone := cibatest.Request{Pushed: at(31), Tokens: []time.Time{at(40)}}
	if got := peak([]cibatest.Request{r, later, alone}); got != 2 {
		t.Errorf("%d at once, want 2", got)
	}
}

// TestRollingFigures: each thing that must not happen is found.
func TestRollingFigures(t *testing.T) {
	for name, spoil := range map[string]func(*load, *site){
		"create refused otherwise": func(l *load, _ *site) { l.list[0].told.tries = map[string]int{"storage_unavailable": 1} },
		"create failed":            func(l *load, _ *site) { l.errs = []error{errors.New("refused")} },
		"exit code":                func(_ *load, s *site) { s.crew[1].notZero = 1 },
	} {
		op, err := openProvider(nil, func(c *cibatest.Config) { c.AllowAnyClient, c.ClientID, c.Plain = true, "", true })
		if err != nil {
			t.Fatal(err)
		}
		defer op.close()
		s := &site{op: op, in: &receiver{}, crew: [2]*service{{}, {}}}
		l := &load{list: []asked{{told: told{tries: map[string]int{"draining": 2, "no answer": 1}}}}}
		if _, found := l.figures(s, nil); len(found) != 0 {
			t.Fatalf("%s: found %v where nothing is wrong", name, found)
		}
		spoil(l, s)
		if _, found := l.figures(s, nil); len(found) != 1 {
			t.Errorf("%s: found %v", name, found)
		}
	}
}

// TestSpread: percentiles of few values are values.
func TestSpread(t *testing.T) {
	s := spread{3 * time.Second, time.Second, 2 * time.Second}
	if got := s.String(); got != "2.00 s / 2.00 s / 3.00 s" {
		t.Error(got)
	}
	if got := (spread{}).String(); got != "–" {
		t.Error(got)
	}
}
