package config

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// groups are the sections that the environment may override, by their variables' prefix.
var groups = []string{"STEPUP_LISTEN_", "STEPUP_REDIS_", "STEPUP_TELEMETRY_"}

const environment = "environment"

// override is a value that the environment sets for a key.
type override struct {
	name, text string
	value      reflect.Value
}

// readEnviron finds the overrides: STEPUP_REDIS_TLS_CA_FILE for redis.tls.ca_file. An empty variable is as good as none.
// A variable of these groups that stands for no member is a mistake like an unknown member of the file.
func (r *reader) readEnviron(c *Config, environ []string) map[string]override {
	known := map[string]override{}
	variables(place{}.member("listen"), structValue(&c.Listen), known)
	variables(place{}.member("redis"), structValue(&c.Redis), known)
	variables(place{}.member("telemetry"), structValue(&c.Telemetry), known)
	names := map[string]string{} // variable to key
	for key := range known {
		names[variable(key)] = key
	}
	found := map[string]override{}
	for _, e := range environ {
		name, text, _ := strings.Cut(e, "=")
		if !slices.ContainsFunc(groups, func(g string) bool { return strings.HasPrefix(name, g) }) {
			continue
		}
		if key, ok := names[name]; ok {
			if text != "" {
				found[key] = override{name: name, text: text, value: known[key].value}
			}
			continue
		}
		r.refuseVariable(name, names)
	}
	return found
}

func (r *reader) refuseVariable(name string, names map[string]string) {
	known := slices.Collect(maps.Keys(names))
	remedy := cmp.Or(didYouMean(name, known), "; unset it")
	r.problems = append(r.problems, Problem{File: environment, Key: name, Text: "stands for no member of the configuration" + remedy})
}

// variables collects the members below a section that hold a value.
func variables(at place, v reflect.Value, known map[string]override) {
	for name, i := range fieldsOf(v.Type()) {
		here, field := at.member(name), v.Field(i)
		if field.Kind() == reflect.Struct && field.Type() != secretType {
			variables(here, field, known)
			continue
		}
		known[here.key] = override{value: field}
	}
}

func variable(key string) string {
	return "STEPUP_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// applyEnv lays the overrides over what the file said. A mistake in them is told with the variable's name.
func (r *reader) applyEnv() {
	for key, o := range r.env {
		r.from[key] = origin{file: environment, name: o.name}
		delete(r.bad, key)
		r.setText(place{key: key}, o.text, o.value)
	}
}
