package admin

import (
	"strings"
	"testing"
	"time"
)

func TestWords(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct{ got, want string }{
		{number(0), "0"}, {number(999), "999"}, {number(1000), "1,000"}, {number(int64(1234567)), "1,234,567"}, {number(-1234), "-1,234"}, {number(-123), "-123"},
		{plural(1, "lease", "leases"), "1 lease"}, {plural(int64(1200), "lease", "leases"), "1,200 leases"},
		{span(300 * time.Millisecond), "0 s"}, {span(59 * time.Second), "59 s"}, {span(61 * time.Second), "1 min 1 s"}, {span(11 * time.Minute), "11 min"},
		{span(90 * time.Minute), "1 h 30 min"}, {span(50 * time.Hour), "2 days"}, {span(-5 * time.Second), "5 s"},
		{ago(at, at.Add(time.Minute)), "0 s"},
		{within(0), "–"}, {within(25 * time.Millisecond), "25 ms"}, {within(2500 * time.Millisecond), "2.5 s"}, {within(30 * time.Second), "30 s"}, {within(time.Minute), "> 30 s"},
		{stamp(at), "2026-11-21 12:00:00.000 UTC"}, {stamp(time.Time{}), "–"},
		{bytesOf(2048), "2 KiB"}, {bytesOf(1 << 30), "1,024 MiB"}, {bytesOf(20 << 30), "20 GiB"},
		{statusOf(0, "timeout"), "timeout"}, {statusOf(503, "status"), "503"}, {statusOf(0, ""), "–"},
		{aheadBy(time.Second), ""}, {aheadBy(31 * time.Second), "31 s ahead"}, {aheadBy(-3 * time.Second), "3 s behind"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
}

// A plot shows everything that happened, however little it was beside the rest, and stays within its frame.
func TestPlot(t *testing.T) {
	p := newPlot("Final", "step-ups", series{"approved", []int{0, 10_000, 1, -3}}, series{"failed", []int{0, 1, 0, 2}})
	if p.Total != 10_004 || p.Most != 10_001 || p.Last != 1 {
		t.Errorf("total %d, most %d, last %d", p.Total, p.Most, p.Last)
	}
	svg := string(p.SVG())
	for _, want := range []string{`viewBox="0 0 16 48"`, `class="approved" d="M4 48v-47h3v47zM8 48v-1h3v1z"`, `class="failed" d="M4 1v-1h3v1zM12 48v-1h3v1z"`, "10,004 step-ups, at most 10,001 a minute"} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %s in %s", want, svg)
		}
	}
	if empty := string(newPlot("Created", "step-ups", series{"created", make([]int, 60)}).SVG()); strings.Count(empty, "<path") != 1 {
		t.Errorf("nothing happened: %s", empty)
	}
}

func TestMarkdown(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"# A title", `<h1 id="a-title">A title</h1>`},
		{"### StepupDown\nAt once.", `<h3 id="stepupdown">StepupDown</h3><p>At once.</p>`},
		{"One\ntwo `a < b` **three**.", "<p>One two <code>a &lt; b</code> <strong>three</strong>.</p>"},
		{"See [there](#that-one) or [here](FILE.md).", `<p>See <a href="#that-one">there</a> or here.</p>`},
		{"`[as](#it)` **is**", "<p><code>[as](#it)</code> <strong>is</strong></p>"},
		{"* one\n  goes on\n* two", "<ul><li>one goes on</li><li>two</li></ul>"},
		{"1. one\n2. two", "<ol><li>one</li><li>two</li></ol>"},
		{"| a | b |\n|---|---|\n| `c` | d |", `<div class="table"><table><tr><th>a</th><th>b</th></tr><tr><td><code>c</code></td><td>d</td></tr></table></div>`},
		{"| | |\n|---|---|\n| c | d |", `<div class="table"><table><tr><td>c</td><td>d</td></tr></table></div>`},
		{"```sh\na <b>\n\n# no heading\n```\n\nafter", "<pre>a &lt;b&gt;\n\n# no heading</pre><p>after</p>"},
		{"<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"},
	} {
		if got := string(markdown(tt.text)); got != tt.want {
			t.Errorf("%q becomes\n%s, want\n%s", tt.text, got, tt.want)
		}
	}
}
