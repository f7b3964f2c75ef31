package admin

import (
	"cmp"
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"

	"stepup/worker"
)

// words are how templates say things.
var words = template.FuncMap{
	"number": number,
	"ago":    ago,
	"span":   span,
	"within": within,
	"clock":  func(t time.Time) string { return t.UTC().Format("15:04:05") + " UTC" },
	"stamp":  stamp,
	"bytes":  bytesOf,
	"status": statusOf,
	"plural": plural,
	"event":  func(typ string) string { return strings.TrimPrefix(typ, "step_up.") },
	"ahead":  aheadBy,
}

// number groups digits by three.
func number(n any) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural counts things.
func plural(n any, one, many string) string {
	if s := number(n); s != "1" {
		return s + " " + many
	}
	return "1 " + one
}

// span is a time that went by, to one part in about sixty.
func span(d time.Duration) string {
	switch d = d.Abs(); {
	case d < time.Second:
		return "0 s"
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < 10*time.Minute:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min"
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return strconv.Itoa(int(d.Hours()/24)) + " days"
}

// ago is how long before now t was.
func ago(now, t time.Time) string { return span(max(0, now.Sub(t))) }

// within is a bound on how long answers took.
func within(d time.Duration) string {
	switch {
	case d == 0:
		return "–"
	case d > 30*time.Second: // beyond the last bound
		return "> 30 s"
	case d < time.Second:
		return strconv.Itoa(int(d.Milliseconds())) + " ms"
	}
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + " s"
}

// stamp is an instant, nil or zero for none.
func stamp(t any) string {
	var at time.Time
	switch t := t.(type) {
	case time.Time:
		at = t
	case *worker.Time:
		if t != nil {
			at = t.Time
		}
	case worker.Time:
		at = t.Time
	}
	if at.IsZero() {
		return "–"
	}
	return at.UTC().Format("2006-01-02 15:04:05.000") + " UTC"
}

func bytesOf(n int64) string {
	switch {
	case n < 1<<20:
		return number(n>>10) + " KiB"
	case n < 10<<30:
		return number(n>>20) + " MiB"
	}
	return number(n>>30) + " GiB"
}

// statusOf is the last answer of a webhook: its HTTP status, or why there was none.
func statusOf(status int, reason string) string {
	if status == 0 {
		return cmp.Or(reason, "–")
	}
	return strconv.Itoa(status)
}

// aheadBy says how far a clock is off, "" when it is not worth saying: HTTP tells whole seconds.
func aheadBy(d time.Duration) string {
	switch {
	case d > 2*time.Second:
		return span(d) + " ahead"
	case d < -2*time.Second:
		return span(d) + " behind"
	}
	return ""
}
