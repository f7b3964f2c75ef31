package admin

import (
	"fmt"
	"html/template"
	"strings"
)

// A plot is sixty bars, one a minute.
const (
	barStep  = 4 // units from one bar to the next
	barWidth = 3
	plotHigh = 48
)

// series is one sort of bar. Where there are several, they stand on top of each other.
type series struct {
	Name   string // of its class, too
	Values []int
}

// Total is how many there were in the hour.
func (s series) Total() (sum int) {
	for _, n := range s.Values {
		sum += max(0, n)
	}
	return sum
}

// plot is what came to pass in the last hour, as a picture and in words.
type plot struct {
	Title  string
	Unit   string // what is counted
	Series []series
	Most   int // in one minute
	Total  int
	Last   int // in the last whole minute
}

func newPlot(title, unit string, all ...series) plot {
	p := plot{Title: title, Unit: unit, Series: all}
	for i := range all[0].Values {
		sum := 0
		for _, s := range all {
			sum += max(0, s.Values[i])
		}
		p.Total += sum
		p.Most = max(p.Most, sum)
		if i == len(all[0].Values)-2 {
			p.Last = sum
		}
	}
	return p
}

// Words is the plot for those who do not see it.
func (p plot) Words() string {
	return fmt.Sprintf("%s in the last hour: %s %s, at most %s a minute", p.Title, number(p.Total), p.Unit, number(p.Most))
}

// SVG draws it. A part of a bar is at least one unit high, so that one in ten thousand is seen.
func (p plot) SVG() template.HTML {
	var out strings.Builder
	width := barStep * len(p.Series[0].Values)
	fmt.Fprintf(&out, `<svg viewBox="0 0 %d %d" preserveAspectRatio="none" role="img" aria-label="%s">`, width, plotHigh, template.HTMLEscapeString(p.Words()))
	fmt.Fprintf(&out, `<path class="base" d="M0 %dh%d"/>`, plotHigh, width)
	stood := make([]int, len(p.Series[0].Values))
	for _, s := range p.Series {
		var d strings.Builder
		for i, n := range s.Values {
			if n <= 0 {
				continue
			}
			high := max(1, n*plotHigh/p.Most)
			high = min(high, plotHigh-stood[i])
			fmt.Fprintf(&d, "M%d %dv-%dh%dv%dz", i*barStep, plotHigh-stood[i], high, barWidth, high)
			stood[i] += high
		}
		if d.Len() > 0 {
			fmt.Fprintf(&out, `<path class="%s" d="%s"/>`, s.Name, d.String())
		}
	}
	out.WriteString("</svg>")
	return template.HTML(out.String())
}
