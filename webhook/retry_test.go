package webhook

import (
	"math"
	"testing"
	"time"
)

func TestGap(t *testing.T) {
	const s, m = time.Second, time.Minute
	base := []time.Duration{
		1 * s, 2 * s, 5 * s, 10 * s, 20 * s, 30 * s,
		m, m, m, m, 2 * m, 5 * m, 10 * m, 20 * m, 30 * m, 60 * m, 60 * m, 60 * m,
	}
	for i, want := range base {
		n := i + 1
		if got := Gap(n, 0); got != want {
			t.Errorf("Gap(%d, 0) = %v, want %v", n, got, want)
		}
		most := want + want/5
		if n <= 6 {
			most = want // the first ones are exact
		}
		most = min(most, time.Hour)
		for _, rnd := range []float64{0, 0.001, 0.5, 0.999999, 1, 7, -1, math.NaN(), math.Inf(1), math.Inf(-1)} {
			if got := Gap(n, rnd); got < want || got > most {
				t.Errorf("Gap(%d, %v) = %v, want %v to %v", n, rnd, got, want, most)
			}
		}
		if next := Gap(n+1, 0); next < want {
			t.Errorf("Gap(%d) = %v is shorter than the one before", n+1, next)
		}
	}
	if got := Gap(7, 0.5); got != 66*s {
		t.Errorf("Gap(7, 0.5) = %v, want 66 s", got)
	}
	for n, want := range map[int]time.Duration{0: s, -5: s, 1000: time.Hour, math.MaxInt: time.Hour} {
		if got := Gap(n, 0.5); got != want {
			t.Errorf("Gap(%d) = %v, want %v", n, got, want)
		}
	}
}

// What the receiver asked for is told in full.
func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 21, 2, 3, 4, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                                 0,
		"0":                                0,
		"7":                                7 * time.Second,
		"007":                              7 * time.Second,
		"86400":                            24 * time.Hour,
		"86401":                            24 * time.Hour,
		"4294967296":                       24 * time.Hour,
		"99999999999999999999999999":       24 * time.Hour,
		"Sat, 21 Nov 2026 02:03:11 GMT":    7 * time.Second,
		"Saturday, 21-Nov-26 02:03:11 GMT": 7 * time.Second,
		"Sat Nov 21 02:03:11 2026":         7 * time.Second,
		"Sat, 21 Nov 2026 02:03:04 GMT":    0,
		"Fri, 20 Nov 2026 02:03:11 GMT":    0,
		"Sat, 21 Nov 2099 02:03:11 GMT":    24 * time.Hour,
		"-7":                               0,
		"+7":                               0,
		"7.5":                              0,
		"7s":                               0,
		"soon":                             0,
		"٧":                                0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("Retry-After %q = %v, want %v", value, got, want)
		}
	}
}
