package main

// parts of the report's section about webhooks.
const (
	allHooks   = "Deliveries"
	badOnesToo = "Fifty endpoints, three of them bad"
)

var hookParts = []part{
	{allHooks, "-webhooks -n 10000 -for 15s"},
	{badOnesToo, "-endpoints -for 15s"},
}

func hookLimits() []limit {
	return []limit{
		{rowMissing, 0, false, worst(allHooks, rowMissing, 1)},
		{rowCalmP50, 5, false, worst(allHooks, rowCalmP50, 1)},
		{rowCalmP99, 25, false, worst(allHooks, rowCalmP99, 1)},
		{rowBesideBad, 1.2, false, func(f map[string]table) (float64, bool) { return f[badOnesToo].value(rowBesideBad, 1) }},
	}
}
