package main

// traced is the only part of the report's section about telemetry.
const traced = "Two services, one with telemetry"

var telemetryParts = []part{{traced, "-telemetry -n 2500 -for 40s"}}

func telemetryLimits() []limit {
	return []limit{{rowWithout, 1.1, false, func(f map[string]table) (float64, bool) { return f[traced].value(rowWithout, 1) }}}
}
