package deploy

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// What capacity is planned with, in CAPACITY.md's order.
type plan struct {
	poll, redisPoll, stepUp, redisStepUp float64 // µs of a core
	process, perStepUp                   float64 // MiB, KiB
	inFlight, ended, result              float64 // bytes in Redis
}

func rows(t *testing.T, text, heading string) [][]string {
	t.Helper()
	_, part, ok := strings.Cut(text, "\n"+heading+"\n")
	if !ok {
		t.Fatalf("no part %q", heading)
	}
	part = regexp.MustCompile(`\n##+ `).Split(part, 2)[0]
	var all [][]string
	for line := range strings.Lines(part) {
		if cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|"); len(cells) > 1 {
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			all = append(all, cells)
		}
	}
	return all
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64)
	if err != nil {
		t.Fatalf("%q is no number", text)
	}
	return n
}

func planned(t *testing.T) (p plan) {
	t.Helper()
	table := rows(t, read(t, "CAPACITY.md"), "## Plan with")[2:]
	into := []*float64{&p.poll, &p.redisPoll, &p.stepUp, &p.redisStepUp, &p.process, &p.perStepUp, &p.inFlight, &p.ended, &p.result}
	if len(table) != len(into) {
		t.Fatalf("%d figures to plan with, want %d", len(table), len(into))
	}
	for i, row := range table {
		*into[i] = number(t, row[1])
	}
	return p
}

// Nobody plans with less than was measured, also when it is measured again.
func TestPlanIsNotBelowWhatWasMeasured(t *testing.T) {
	p, measured := planned(t), read(t, "PERFORMANCE.md")
	const (
		many   = "### 10,000 in flight, every 5 s"
		most   = "### 50,000 in flight, every 30 s"
		few    = "### 1,000 in flight, every 5 s"
		tls    = "### TLS and HTTP/2: 1,000 in flight, every 5 s"
		create = "### Many creates and long polls"
	)
	for _, c := range []struct {
		part, row string
		column    int
		plan      float64
	}{
		{many, "CPU a poll, this process, µs", 1, p.poll},
		{most, "CPU a poll, this process, µs", 1, p.poll},
		{many, "CPU a poll, Redis, µs", 1, p.redisPoll},
		{most, "CPU a poll, Redis, µs", 1, p.redisPoll},
		{create, "CPU, service, % of one core", 1, p.stepUp * 500 / 1e4},
		{create, "CPU, service, % of one core", 2, p.stepUp * 500 / 1e4},
		{create, "CPU, Redis, % of one core", 1, p.redisStepUp * 500 / 1e4},
		{create, "RSS before, MiB", 1, p.process},
		{few, "RSS a step-up, KiB", 1, p.perStepUp},
		{many, "RSS a step-up, KiB", 1, p.perStepUp},
		{many, "Redis memory a step-up, bytes", 1, p.inFlight},
		{tls, "Redis memory a step-up, bytes", 1, p.inFlight},
	} {
		found := false
		for _, row := range rows(t, measured, c.part) {
			if row[0] == c.row {
				found = true
				if got := number(t, row[c.column]); got > c.plan {
					t.Errorf("%s: %s is %v, CAPACITY.md plans with %v", c.part, c.row, got, c.plan)
				}
			}
		}
		if !found {
			t.Errorf("PERFORMANCE.md, %s, has no row %q", c.part, c.row)
		}
	}
}

// The table of sizes follows from the figures to plan with.
func TestSizesFollowFromThePlan(t *testing.T) {
	p := planned(t)
	figure := func(n float64) string {
		if n < 10 {
			return fmt.Sprintf("%.1f", n)
		}
		return thousands(fmt.Sprintf("%.0f", n))
	}
	table := rows(t, read(t, "CAPACITY.md"), "## Sizes")[2:]
	for _, row := range table {
		day := number(t, row[0])
		second := day / 5 / 3600
		worst := second * 300
		polls := worst / 5
		want := []string{
			row[0], figure(second), figure(second * 30), figure(worst), figure(polls),
			figure((polls*p.poll + second*p.stepUp) / 1e6 / 0.7),
			fmt.Sprintf("%.0f", max(2, math.Ceil(worst/6000))),
			fmt.Sprintf("%.1f GB", (day*26/24*p.ended+second*900*p.result+worst*p.inFlight)/1e9),
			fmt.Sprintf("%.0f %%", (polls*p.redisPoll+second*p.redisStepUp)/1e4),
		}
		if got := strings.Join(row, " | "); got != strings.Join(want, " | ") {
			t.Errorf("CAPACITY.md has the row\n%s\nand the figures above it make\n%s", got, strings.Join(want, " | "))
		}
	}
	if len(table) < 4 {
		t.Errorf("%d sizes: the table is not read as it should be", len(table))
	}
}

func thousands(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
