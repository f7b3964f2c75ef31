package main_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "stepup/"

// ours says what each package may import of this module. A package that is not named here does not belong in the tree;
// "*" may import all. Tests of a package may import whatever the compiler lets them: they are users.
var ours = map[string][]string{
	"config":              {},
	"ciba/jose":           {},
	"webhook":             {},
	"ciba":                {"ciba/jose"},
	"ciba/cibatest":       {}, // judges ciba, so it must not share its code
	"ciba/cibatest/peers": {},
	"worker":              {"ciba", "webhook"},
	"worker/redistest":    {}, // Redis processes for tests
	"worker/api":          {"worker"},
	"worker/api/apitest":  {"worker/api"}, // holds answers against the API's document, for tests
	"worker/admin":        {"worker"},
	"deploy":              {}, // documents that the program shows
	"cmd/stepup":          {"*"},
	"cmd/bench":           {"*"},
	"cmd/crash":           {"*"},
}

// theirs says which packages may import a module of others, by the longest prefix that fits. A module that is not named
// here is not used. tests are packages whose tests may, beyond those.
var theirs = map[string]struct{ code, tests []string }{
	"github.com/lestrrat-go/jwx":    {code: []string{"ciba/jose", "ciba/cibatest", "webhook", "cmd/bench"}}, // cmd/bench: the loop that the service is held against
	"github.com/hibiken/asynq":      {code: []string{"worker"}, tests: []string{"worker/api", "worker/admin", "cmd/stepup"}},
	"github.com/hibiken/asynqmon":   {code: []string{"worker/admin"}},
	"github.com/redis/go-redis":     {code: []string{"worker", "worker/admin", "worker/redistest", "cmd/stepup", "cmd/bench"}, tests: []string{"worker/api"}},
	"github.com/alicebob/miniredis": {code: []string{"cmd/stepup", "cmd/bench"}, tests: []string{"worker", "worker/api", "worker/admin"}},
	"github.com/cenkalti/backoff":   {code: []string{"worker"}},
	"github.com/goccy/go-yaml":      {code: []string{"config"}, tests: []string{"cmd/stepup", "deploy"}},
	"github.com/alecthomas/kong":    {code: []string{"cmd/stepup", "cmd/bench"}},
	"code.dny.dev/ssrf":             {code: []string{"webhook"}},
	"golang.org/x/sync":             {code: []string{"*"}},
	"golang.org/x/time":             {code: []string{"worker"}},
	"golang.org/x/net":              {tests: []string{"worker/api"}},
	"golang.org/x/sys":              {code: []string{"cmd/stepup", "cmd/crash"}},
	"go.opentelemetry.io/otel":      {code: []string{"*"}},
	// Everything else has only the API: who runs the program chooses where telemetry goes.
	"go.opentelemetry.io/otel/sdk":        {code: []string{"cmd/stepup"}},
	"go.opentelemetry.io/otel/exporters":  {code: []string{"cmd/stepup"}},
	"github.com/prometheus/client_golang": {code: []string{"cmd/stepup"}},
	"github.com/go-logr/logr":             {code: []string{"cmd/stepup"}},  // the SDK's own log, switched off
	"go.opentelemetry.io/proto/otlp":      {tests: []string{"cmd/stepup"}}, // reads what was exported
	"google.golang.org/protobuf":          {tests: []string{"cmd/stepup"}},
	// Only tests: another's opinion on our signatures, and scripts that run the binary.
	"github.com/standard-webhooks/standard-webhooks": {tests: []string{"webhook", "ciba/cibatest/peers", "cmd/stepup"}},
	"github.com/rogpeppe/go-internal":                {tests: []string{"cmd/stepup"}},
	"github.com/Shopify/toxiproxy":                   {tests: []string{"cmd/stepup"}},                                       // a wire that fails
	"github.com/getkin/kin-openapi":                  {code: []string{"worker/api/apitest"}, tests: []string{"worker/api"}}, // holds answers against the document
	"github.com/chromedp/chromedp":                   {tests: []string{"cmd/stepup"}},                                       // a browser
	"github.com/chromedp/cdproto":                    {tests: []string{"cmd/stepup"}},
	"github.com/rs/zerolog":                          {tests: []string{"cmd/stepup"}}, // toxiproxy's log, switched off
}

// TestImports keeps the tree what it says it is: who may know whom.
func TestImports(t *testing.T) {
	seen := map[string]bool{}
	for file, imports := range goFiles(t, filepath.Join("..", "..")) {
		pkg, test := path.Dir(file), strings.HasSuffix(file, "_test.go")
		seen[pkg] = true
		if _, ok := ours[pkg]; !ok {
			t.Errorf("%s: package %s is not in the table of packages", file, pkg)
			continue
		}
		for _, imported := range imports {
			if own, ok := strings.CutPrefix(imported, module); ok {
				if !test && !allows(ours[pkg], own) {
					t.Errorf("%s imports %s; %s may import %v of ours", file, own, pkg, ours[pkg])
				}
			} else if strings.Contains(strings.Split(imported, "/")[0], ".") {
				judgeTheirs(t, file, pkg, imported, test)
			}
		}
	}
	for _, pkg := range []string{"config", "ciba", "ciba/jose", "worker", "webhook"} {
		if !seen[pkg] {
			t.Errorf("package %s was not found: the walk is wrong", pkg)
		}
	}
}

func judgeTheirs(t *testing.T, file, pkg, imported string, test bool) {
	t.Helper()
	best := ""
	for prefix := range maps.Keys(theirs) {
		if (imported == prefix || strings.HasPrefix(imported, prefix+"/")) && len(prefix) > len(best) {
			best = prefix
		}
	}
	may := theirs[best]
	switch {
	case best == "":
		t.Errorf("%s imports %s, which is not in the table of modules", file, imported)
	case !allows(may.code, pkg) && !(test && allows(may.tests, pkg)):
		t.Errorf("%s imports %s; only %v may, and tests of %v", file, imported, may.code, may.tests)
	}
}

func allows(list []string, pkg string) bool {
	return slices.Contains(list, pkg) || slices.Contains(list, "*")
}

// goFiles are the imports of each Go file under root, by its slash-separated path from there.
func goFiles(t *testing.T, root string) map[string][]string {
	t.Helper()
	files := map[string][]string{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		imports := []string{}
		for _, i := range f.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			imports = append(imports, imported)
		}
		files[filepath.ToSlash(rel)] = imports
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
