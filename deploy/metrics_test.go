package deploy

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documented are the metrics of METRICS.md as Prometheus names them, each with its labels.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	row := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| `[a-z._]+` \\| (?:counter|gauge|histogram) \\| *([^|]*?) *\\|")
	for _, m := range row.FindAllStringSubmatch(read(t, "METRICS.md"), -1) {
		all[m[1]] = append(strings.FieldsFunc(m[2], func(r rune) bool { return strings.ContainsRune("`, ", r) }), "job", "instance", "le")
	}
	if len(all) < 20 {
		t.Fatalf("%d metrics: METRICS.md is not read as it should be", len(all))
	}
	return all
}

// What rules, dashboard and autoscaler ask for is what METRICS.md documents, labels too: a name that nobody writes is an alert
// that never fires.
func TestMetricsAreDocumented(t *testing.T) {
	known := documented(t)
	known["up"], known["ALERTS"] = []string{"job", "instance"}, nil // which Prometheus makes itself
	known["target_info"] = []string{"job", "stepup_role"}           // who the process is; METRICS.md has it in its first lines
	asked := map[string]bool{}
	ask := func(who, query string) {
		for _, name := range metricsIn(query) {
			asked[name] = true
			if _, ok := known[partOf.ReplaceAllString(name, "")]; !ok {
				t.Errorf("%s asks for %s, which is not in METRICS.md", who, name)
			}
		}
		for _, m := range selectors.FindAllStringSubmatch(query, -1) {
			for _, label := range labels.FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(known[partOf.ReplaceAllString(m[1], "")], label[1]) {
					t.Errorf("%s asks for %s with the label %s, which is not in METRICS.md", who, m[1], label[1])
				}
			}
		}
	}
	for _, a := range alerts(t) {
		ask("alert "+a.Alert, a.Expr)
	}
	for title, queries := range dashboard(t) {
		for _, q := range queries {
			ask("panel "+title, q)
		}
	}
	for _, m := range regexp.MustCompile(`metric: \{name: (\w+)\}`).FindAllStringSubmatch(read(t, "kubernetes/worker.yaml"), -1) {
		ask("the autoscaler", m[1])
	}
	for name := range known {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(asked)), func(a string) bool { return partOf.ReplaceAllString(a, "") == name }) && name != "ALERTS" {
			t.Errorf("%s is in METRICS.md, and no alert and no panel looks at it", name)
		}
	}
}

var (
	partOf    = regexp.MustCompile(`_(bucket|sum|count)$`) // of a histogram
	selectors = regexp.MustCompile(`(\w+)\{([^}]*)\}`)
	labels    = regexp.MustCompile(`(\w+) *(?:=~|!~|!=|=)`)
)

var (
	besides = regexp.MustCompile(`\{[^}]*\}|\[[^\]]*\]|\b(by|without|on|ignoring) \([^)]*\)|offset \w+`)
	words   = regexp.MustCompile(`\b([A-Za-z_]\w*)\b(\s*\()?`)
	notOnes = []string{"or", "and", "unless", "by", "without", "on"}
)

// metricsIn are the metrics that a query reads: the words that are no labels, no functions and no operators.
func metricsIn(query string) []string {
	var names []string
	for _, m := range words.FindAllStringSubmatch(besides.ReplaceAllString(query, " "), -1) {
		if m[2] == "" && !slices.Contains(notOnes, m[1]) {
			names = append(names, m[1])
		}
	}
	return names
}

func TestMetricsIn(t *testing.T) {
	for query, want := range map[string][]string{
		`up{job="stepup"} == 0`:                                                                           {"up"},
		`(max(stepup_workers) or vector(0)) < 1`:                                                          {"stepup_workers"},
		`sum by (le, provider) (rate(a_bucket{http_route=~".*"}[5m])) / on (b) c`:                         {"a_bucket", "c"},
		`a > 0 or (b{x="1"} > 0 unless b offset 10m)`:                                                     {"a", "b", "b"},
		`histogram_quantile(0.5, sum by (le) (rate(x_seconds_bucket{provider=~"$p"}[$__rate_interval])))`: {"x_seconds_bucket"},
	} {
		if got := metricsIn(query); !slices.Equal(got, want) {
			t.Errorf("%s reads %v, want %v", query, got, want)
		}
	}
}

type panel struct {
	ID          int
	Type, Title string
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct{ RefID, Expr string }
}

func panels(t *testing.T) []panel {
	t.Helper()
	var board struct{ Panels []panel }
	if err := json.Unmarshal([]byte(read(t, "grafana/stepup.json")), &board); err != nil {
		t.Fatal(err)
	}
	return board.Panels
}

// dashboard has each panel's queries, by its title.
func dashboard(t *testing.T) map[string][]string {
	t.Helper()
	queries := map[string][]string{}
	for _, p := range panels(t) {
		for _, target := range p.Targets {
			queries[p.Title] = append(queries[p.Title], target.Expr)
		}
	}
	return queries
}

// The dashboard's panels have room, queries and a number of their own.
func TestDashboardIsInOrder(t *testing.T) {
	ids, titles, taken := map[int]bool{}, map[string]bool{}, map[[2]int]string{}
	for _, p := range panels(t) {
		if ids[p.ID] || titles[p.Title] {
			t.Errorf("%s: the number %d or the title is there twice", p.Title, p.ID)
		}
		ids[p.ID], titles[p.Title] = true, true
		if p.Type != "row" && (len(p.Targets) == 0 || p.Targets[0].Expr == "") {
			t.Errorf("%s asks for nothing", p.Title)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok || x >= 24 {
					t.Fatalf("%s lies over %q, or beyond the edge", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}
