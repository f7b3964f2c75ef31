package main

import (
	"strings"
	"testing"
	"time"
)

// TestKilledInMidDelivery: a process dies while the receiver has its webhook, or with the answer that it could not store. The receiver has the
// same event again within seconds, from another process or from the one that is started in its place.
func TestKilledInMidDelivery(t *testing.T) {
	t.Parallel()
	k := sharedKit(t)
	for _, c := range []blow{{1, held, 100 * time.Millisecond, false}, {2, unstored, 0, true}} {
		t.Run(string(c.moment), func(t *testing.T) {
			t.Parallel()
			if o := c.run(t.Context(), k); !o.ok() || o.gap == 0 {
				t.Errorf("%s", o)
			}
		})
	}
}

// TestJudgeBlow: what may not come of a death in the middle of a delivery is seen.
func TestJudgeBlow(t *testing.T) {
	for name, c := range map[string]struct {
		moment moment
		events []event
		gap    time.Duration
		wrong  string // a word of the only violation
	}{
		"again":                         {held, []event{{at: at(1)}, {at: at(6), answered: true}}, 4 * time.Second, ""},
		"again, after the first answer": {unstored, []event{{at: at(1), answered: true}, {at: at(6), answered: true}}, 4 * time.Second, ""},
		"stored before the death":       {leaving, []event{{at: at(1), answered: true}}, 0, ""},
		"not answered":                  {leaving, []event{{at: at(1)}}, 0, "answered"},
		"not again":                     {unstored, []event{{at: at(1), answered: true}}, 0, "again"},
		"again too late":                {held, []event{{at: at(1)}, {at: at(10.5), answered: true}}, 8500 * time.Millisecond, "8s"},
		"again and not answered":        {held, []event{{at: at(1)}, {at: at(3)}, {at: at(9)}}, time.Second, "answered"},
	} {
		gap, list := judgeBlow(c.moment, c.events, at(2))
		if gap != c.gap {
			t.Errorf("%s: again after %v, want %v", name, gap, c.gap)
		}
		if (len(list) == 1) != (c.wrong != "") || len(list) > 1 || c.wrong != "" && !strings.Contains(list[0].text, c.wrong) {
			t.Errorf("%s: violations %v, want %q", name, list, c.wrong)
		}
	}
}

// TestBlows: each moment has its share, in both shapes and at different distances, and the section counts all of them.
func TestBlows(t *testing.T) {
	list := blows(50)
	shapes, apart := map[string]int{}, map[blow]bool{}
	var results []outage
	for _, c := range list {
		shapes[string(c.moment)+"; "+c.shape()]++
		results = append(results, outage{blow: c, gap: 4 * time.Second})
		c.number = 0
		apart[c] = true
	}
	for row, n := range shapes {
		if want := map[bool]int{true: 5, false: 10}[strings.HasPrefix(row, string(leaving))]; n != want {
			t.Errorf("%s: %d kills, want %d", row, n, want)
		}
	}
	if len(shapes) != 6 || len(apart) < 40 {
		t.Errorf("%d shapes, %d different kills", len(shapes), len(apart))
	}
	results[0].violations = []violation{{5, "late"}}
	found, figures := tally(results)
	if len(found) != 1 || !strings.Contains(found[0].text, "late") {
		t.Errorf("violations %v", found)
	}
	last := figures[len(figures)-1].value
	if last != "50, 50; 4.00 s / 4.00 s / 4.00 s" {
		t.Errorf("all: %v", last)
	}
}
