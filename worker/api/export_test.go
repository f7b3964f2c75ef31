package api

import (
	"maps"
	"reflect"
)

// What the tests of the document hold it against.

// Routes are the methods of every path.
func Routes(s *Server) map[string][]string {
	all := map[string][]string{}
	for _, t := range []paths{s.routes(), documentation(), s.receiverRoutes(), s.publicRoutes()} {
		for pattern, m := range t {
			for method := range maps.Keys(m) {
				all[pattern] = append(all[pattern], method)
			}
		}
	}
	return all
}

// Problem is a row of the problem table.
type Problem struct {
	Status int
	Title  string
	Retry  bool // always with a Retry-After
}

// Problems is the problem table.
func Problems() map[string]Problem {
	all := map[string]Problem{}
	for code, r := range table {
		all[code] = Problem{r.status, r.title, r.retry > 0}
	}
	return all
}

// The types of the bodies that are ours.
var (
	CreateBody      = reflect.TypeFor[createBody]()
	SpanBody        = reflect.TypeFor[spanBody]()
	AcknowledgeBody = reflect.TypeFor[acknowledgeBody]()
	AttemptsBody    = reflect.TypeFor[attemptsBody]()
	ProblemBody     = reflect.TypeFor[problem]()
)

// MostWaits is the bound of one caller's waits.
const MostWaits = mostWaits
