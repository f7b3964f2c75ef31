package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Exports is where telemetry is sent by OTLP over HTTP: whole URLs, empty for what is not sent.
type Exports struct {
	Traces, Metrics string
	Off             bool // there is to be no telemetry at all, on /metrics neither
}

// Exports lays OpenTelemetry's standard variables below the file: OTLPEndpoint, where it is set, says where telemetry goes.
// What the variables say of headers, certificates, compression, batches and sampling is judged here and read by who sends. Err is nil or
// Problems: a variable that asks for what this program does not do must not pass for one that is obeyed.
func (t Telemetry) Exports(environ []string) (to Exports, err error) {
	env := otel{values: map[string]string{}}
	for _, e := range environ {
		if name, value, _ := strings.Cut(e, "="); strings.HasPrefix(name, "OTEL_") {
			env.values[name] = strings.TrimSpace(value)
		}
	}
	if strings.EqualFold(env.values[disabled], "true") {
		return Exports{Off: true}, nil
	}
	to.Traces = env.target(t.OTLPEndpoint, "traces")
	to.Metrics = env.target(t.OTLPEndpoint, "metrics", "prometheus")
	env.sent("traces", to.Traces)
	env.sent("metrics", to.Metrics)
	env.sampler()
	env.choice("OTEL_METRICS_EXEMPLAR_FILTER", "always_on", "always_off", "trace_based")
	if off := env.values[disabled]; off != "" && !strings.EqualFold(off, "false") {
		env.wrong(disabled, "must be true or false")
	}
	env.resource()
	if len(env.problems) > 0 {
		return Exports{}, env.problems
	}
	return to, nil
}

// otel is what the standard variables say.
type otel struct {
	values   map[string]string
	problems Problems
}

// target is where one signal goes. others are exporters that may be named besides otlp and none, and change nothing.
func (env *otel) target(configured, signal string, others ...string) string {
	exporters := "OTEL_" + strings.ToUpper(signal) + "_EXPORTER"
	asked := false
	for name := range strings.SplitSeq(env.values[exporters], ",") {
		switch name = strings.TrimSpace(name); {
		case name == "none":
			return ""
		case name == "otlp":
			asked = true
		case name != "" && !slices.Contains(others, name):
			env.wrong(exporters, "names an exporter that this program does not have; it has "+either(append([]string{"otlp", "none"}, others...)))
		}
	}
	if env.values[exporters] != "" && !asked {
		return ""
	}
	path := "/v1/" + signal
	if configured != "" {
		env.protocol(signal)
		return strings.TrimRight(configured, "/") + path
	}
	name, value := env.of(signal, "ENDPOINT")
	if value == "" && !asked {
		return ""
	}
	env.protocol(signal)
	switch {
	case value == "":
		return "http://localhost:4318" + path // as the specification has it
	case name == endpointVariable:
		if text := collectorProblem(value); text != "" {
			env.wrong(name, text)
		}
		return strings.TrimRight(value, "/") + path
	}
	if text := targetProblem(value); text != "" {
		env.wrong(name, text)
	}
	return value
}

const (
	disabled         = "OTEL_SDK_DISABLED"
	endpointVariable = "OTEL_EXPORTER_OTLP_ENDPOINT"
)

// of is a setting of a signal's exporter: the signal's own variable, else the one for all.
func (env *otel) of(signal, setting string) (name, value string) {
	own := "OTEL_EXPORTER_OTLP_" + strings.ToUpper(signal) + "_" + setting
	if v := env.values[own]; v != "" {
		return own, v
	}
	all := "OTEL_EXPORTER_OTLP_" + setting
	return all, env.values[all]
}

// protocol wants the one that is spoken.
func (env *otel) protocol(signal string) {
	if name, value := env.of(signal, "PROTOCOL"); value != "" && value != "http/protobuf" {
		env.wrong(name, "must be http/protobuf, which is all that this program speaks; collectors take it on port 4318")
	}
}

var samplers = []string{"always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"}

// sampler wants one that exists: otherwise all would be sampled.
func (env *otel) sampler() {
	const name, argument = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
	value := env.values[name]
	env.choice(name, samplers...)
	ratio, err := strconv.ParseFloat(cmp.Or(env.values[argument], "1"), 64)
	if strings.HasSuffix(value, "traceidratio") && (err != nil || !(ratio >= 0 && ratio <= 1)) { // NaN is a number too
		env.wrong(argument, "must be a number from 0 to 1, such as 0.1 for a tenth of the traces")
	}
}

// wrong notes a problem with a variable, once.
func (env *otel) wrong(name, text string) {
	p := Problem{File: environment, Key: name, Text: text}
	if !slices.Contains(env.problems, p) {
		env.problems = append(env.problems, p)
	}
}
