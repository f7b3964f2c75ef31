package ciba

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// The provider's clock is known to a second from the Date of its last answer, read once a second.
func TestSkew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Client{}
		say := func(date string) { c.clock.read(http.Header{"Date": {date}}) }
		at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
		expect := func(what string, want time.Duration, when time.Time) {
			t.Helper()
			if got, at := c.Skew(); (got-want).Abs() > time.Second || !at.Equal(when) {
				t.Errorf("%s: %v ahead, read at %v; want %v at %v", what, got, at, want, when)
			}
		}
		expect("no answer yet", 0, time.Time{})
		say("")
		say("yesterday")
		expect("no Date", 0, time.Time{})
		time.Sleep(300 * time.Millisecond)
		say(at(40 * time.Second))
		first := time.Now()
		expect("ahead", 40*time.Second, first)
		time.Sleep(900 * time.Millisecond)
		say(at(-time.Hour))
		expect("read a moment ago", 40*time.Second, first)
		time.Sleep(time.Second)
		say(at(-time.Hour))
		expect("behind", -time.Hour, time.Now())
		time.Sleep(time.Second)
		say(at(0))
		expect("right", 0, time.Now())
	})
}
