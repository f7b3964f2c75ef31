package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

type alert struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func readYAML(t *testing.T, name string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, name)), into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []alert `yaml:"rules"`
		} `yaml:"groups"`
	}
	readYAML(t, "prometheus/alerts.yml", &file)
	var all []alert
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) < 20 {
		t.Fatalf("%d alerts: the file is not read as it should be", len(all))
	}
	return all
}

// sections are the runbook's parts on one alert each, by their headings.
func sections(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, part := range strings.Split(read(t, "RUNBOOK.md"), "\n### ")[1:] {
		heading, text, _ := strings.Cut(part, "\n")
		text, _, _ = strings.Cut(text, "\n## ")
		all[heading] = text
	}
	return all
}

// Who is woken by an alert finds its section by the link in it: what it means, what to look at, what to do.
func TestEveryAlertHasItsSection(t *testing.T) {
	known := sections(t)
	for _, a := range alerts(t) {
		if want := `{{ or $externalLabels.stepup_runbook "/runbook" }}#` + anchor(a.Alert); a.Annotations["runbook_url"] != want {
			t.Errorf("%s: runbook_url is %q, want %q", a.Alert, a.Annotations["runbook_url"], want)
		}
		if a.Annotations["summary"] == "" {
			t.Errorf("%s has no summary", a.Alert)
		}
		if s := a.Labels["severity"]; s != "page" && s != "ticket" {
			t.Errorf("%s: severity is %q", a.Alert, s)
		}
		text, ok := known[a.Alert]
		if !ok {
			t.Errorf("RUNBOOK.md has no section on %s", a.Alert)
		}
		delete(known, a.Alert)
		from := 0
		for _, part := range []string{"**Means.** ", "**Look at.** ", "**Do.** "} {
			i := strings.Index(text[from:], part)
			if i < 0 {
				t.Errorf("RUNBOOK.md, %s: %q is missing, or not in its place", a.Alert, part)
				break
			}
			from += i
		}
	}
	for heading := range known {
		t.Errorf("RUNBOOK.md has a section on %s, which is no alert", heading)
	}
}

func TestRunbookLinks(t *testing.T) {
	anchors := map[string]bool{}
	text := read(t, "RUNBOOK.md")
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		anchors[anchor(m[1])] = true
	}
	for _, m := range regexp.MustCompile(`\]\(#([^)]+)\)`).FindAllStringSubmatch(text, -1) {
		if !anchors[m[1]] {
			t.Errorf("#%s leads nowhere", m[1])
		}
	}
}

// anchor is where a heading is found.
func anchor(heading string) string {
	return strings.ReplaceAll(strings.ToLower(heading), " ", "-")
}

// Whoever is called by an alarm line finds its words in the runbook.
func TestEveryAlarmIsExplained(t *testing.T) {
	explained := strings.Join(strings.Fields(sections(t)["StepupAlarm"]), " ")
	found := map[string]bool{}
	for _, dir := range []string{"../worker", "../cmd/stepup"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, m := range alarmLines.FindAllStringSubmatch(read(t, file), -1) {
				words, _, _ := strings.Cut(m[1]+m[2], ";")
				found[strings.TrimRight(words, ": ")] = true
			}
		}
	}
	if len(found) < 20 {
		t.Fatalf("%d alarms: the program is not read as it should be", len(found))
	}
	for words := range found {
		if !strings.Contains(explained, words) {
			// What follows a colon may differ, or say more than the table does.
			if before, _, ok := strings.Cut(words, ": "); !ok || !strings.Contains(explained, before) {
				t.Errorf("RUNBOOK.md, StepupAlarm, does not explain %q", words)
			}
		}
	}
}

// alarmLines are an alarm's words where the line is written, and where they are only chosen.
var alarmLines = regexp.MustCompile(`"([^"]+)",\s*"alarm", true|\b(?:leakedKeys|alarm)(?:\((?:ctx, )?|: | = | =\s+)"([^"]+)"`)

// Files that the documents of this folder name are there.
func TestDocumentsNameFilesThatExist(t *testing.T) {
	docs, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("*/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range append(docs, more...) {
		for _, m := range regexp.MustCompile("`deploy/([^` ]+)`").FindAllStringSubmatch(read(t, filepath.ToSlash(doc)), -1) {
			if _, err := os.Stat(filepath.FromSlash(m[1])); err != nil {
				t.Errorf("%s names deploy/%s: %v", doc, m[1], err)
			}
		}
	}
}

// For each alert there is a case in which it fires and one in which it must not.
func TestEveryAlertIsTried(t *testing.T) {
	var file struct {
		Tests []struct {
			Name  string `yaml:"name"`
			Rules []struct {
				Alert string `yaml:"alertname"`
				Fires []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	readYAML(t, "prometheus/alerts_test.yml", &file)
	var fires, quiet, names []string
	for _, test := range file.Tests {
		for _, r := range test.Rules {
			if len(r.Fires) > 0 {
				fires = append(fires, r.Alert)
			} else {
				quiet = append(quiet, r.Alert)
			}
		}
	}
	for _, a := range alerts(t) {
		names = append(names, a.Alert)
		if !slices.Contains(fires, a.Alert) || !slices.Contains(quiet, a.Alert) {
			t.Errorf("%s must be seen to fire and not to fire in alerts_test.yml", a.Alert)
		}
	}
	for _, name := range append(fires, quiet...) {
		if !slices.Contains(names, name) {
			t.Errorf("alerts_test.yml tries %s, which is no alert", name)
		}
	}
}
