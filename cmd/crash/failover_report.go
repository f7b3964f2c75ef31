package main

import (
	"fmt"
	"strings"
	"time"
)

func (t toll) String() string {
	return fmt.Sprintf("%d step-ups, %d as answered, %d unknown (answer lost), %d unknown (told 502), %d orphaned, %d gone, %d open, %d other, %d second pushes, %d false, %d told in two ways, %d untold, %d overlaps, %d early, %d refused, pauses %v",
		t.stepUps, t.right, t.lost, t.unasked, t.orphaned, t.gone, t.open, t.other, t.twice, t.untrue, t.changed, t.untold, t.overlaps, t.early, t.refused, t.pauses)
}

const failoverText = `
Each row is one run on real processes: two of the service, a provider, a receiver, and a Redis of several. Sentinel: a master, two replicas,
three sentinels, quorum 2, down after 1 s. Cluster: three masters with a replica each, node time-out 1.5 s; the struck master keeps a shard of
step-ups or the leases. 10 step-ups a second are created all the time, by a bank that repeats a create under its Idempotency-Key until it knows;
people answer after 3 to 37 s, 200 step-ups are in flight and polled every second. Each master comes back as a replica before the next one is struck.

* as answered: approved or denied, as the person did
* unknown: the answer was consumed and lost, and is told as lost; in brackets those whose create was already told so, with 502
* orphaned: told 201; then the auth_req_id was gone, and it ended as unknown
* gone: told 201, and no record afterwards
* second pushes: the same create reached a phone twice
* told in two ways: a webhook said one thing, the API or another webhook says another
* early polls: claims are not waited for; who holds one that Redis forgot stops when it notices, and may be one poll late
* pause: how long the create that waited longest took until its 201, for each strike, the median and the longest
`

// failoverSection is one row a scenario.
func failoverSection(rows []toll, o origin) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## Failover\n\n%s\n\n%s\n\n", o, strings.TrimSpace(failoverText))
	b.WriteString("| Redis | the master's end | wait_replicas | times | step-ups | as answered | unknown | orphaned | gone | second pushes | told in two ways | false | overlaps, early polls | pause |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	var findings []string
	for _, t := range rows {
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %d | %d (%d) | %d | %d | %d | %d | %d | %d, %d | %s |\n", t.set, t.death, t.wait, t.times,
			t.stepUps, t.right, t.lost+t.unasked, t.unasked, t.orphaned, t.gone, t.twice, t.changed, t.untrue, t.overlaps, t.early, medianAndMost(t.pauses))
		for _, f := range t.broken() {
			findings = append(findings, fmt.Sprintf("* %s: %s", t.scenario, f))
		}
	}
	if len(findings) == 0 {
		b.WriteString("\nViolations: none. Without `wait_replicas`, what a failover forgets is counted and not a violation.\n")
	} else {
		b.WriteString("\nViolations:\n\n" + strings.Join(findings, "\n") + "\n")
	}
	return b.String()
}

// medianAndMost are the median and the longest of sorted durations.
func medianAndMost(list []time.Duration) string {
	if len(list) == 0 {
		return "–"
	}
	round := func(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }
	return fmt.Sprintf("%v, %v", round(list[len(list)/2]), round(list[len(list)-1]))
}
