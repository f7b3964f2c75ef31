package main

// parts of the report's section about callers.
const (
	crowdedEdge = "Many creates and long polls"
	slowEdge    = "Slow connections"
	longList    = "A caller with 100,000 step-ups"
)

var callerParts = []part{
	{crowdedEdge, "-callers -for 20s"},
	{slowEdge, "-slow -for 12s"},
	{longList, "-records -n 100000 -for 3s"},
}

func callerLimits() []limit {
	return []limit{
		{rowFaults, 0, false, worst(crowdedEdge, rowFaults, 0)},
		{rowBeyondP50, 25, false, worst(crowdedEdge, rowBeyondP50, 0)},
		{rowBeyondP99, 100, false, worst(crowdedEdge, rowBeyondP99, 0)},
		{rowReadP99, 100, false, worst(crowdedEdge, rowReadP99, 0)},
		{rowGrown, 1.2, false, worst(crowdedEdge, rowGrown, 0)},
		{rowSlowCreates, 1.2, false, worst(slowEdge, rowSlowCreates, 1)},
		{rowSlowGets, 1.2, false, worst(slowEdge, rowSlowGets, 1)},
		{"a page of the list p99, ms", 50, false, worst(longList, rowPageP99, 2)},
	}
}

// worst is the largest of a row's columns, from one of them on.
func worst(part, row string, from int) func(map[string]table) (float64, bool) {
	return func(found map[string]table) (most float64, ok bool) {
		for i := from; i < len(found[part].Columns); i++ {
			v, has := found[part].value(row, i)
			if !has {
				return 0, false
			}
			most, ok = max(most, v), true
		}
		return most, ok
	}
}
