package worker

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"stepup/ciba"
)

// What the worker has in hand of a person, of a provider's secrets or of a caller's words prints as nothing, also
// out of the structs that nobody else sees.
func TestWhatIsInHandDoesNotPrint(t *testing.T) {
	const canary = "S8765432Z"
	question := Question{LoginHint: canary}
	told := face{Reference: canary, Metadata: map[string]string{canary: canary}}
	who := ciba.Identity{Subject: canary, Claims: map[string]any{"c": canary}}
	reference := canary
	request := Request{IdempotencyKey: canary, Question: question, Reference: canary, Metadata: told.Metadata}
	for _, v := range []any{
		told, prompt{face: told, Question: question, ID: canary, Raw: canary}, result{Identity: &who}, verdict{raw: canary},
		&session{held: &held{record: record{ID: "su_1"}}, asked: Asked{ID: canary, Question: question, Raw: canary}, face: told},
		create{Request: &request}, answer{identity: &who}, event{Data: StepUp{Reference: &reference, Metadata: told.Metadata, Identity: &who}},
		Filter{Reference: canary},
	} {
		for _, held := range []any{v, &v, []any{v}, map[string]any{"k": v}, struct{ V any }{v}} {
			var out bytes.Buffer
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
				fmt.Fprintf(&out, verb+"\n", held)
			}
			slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", held, slog.Group("g", "v", held))
			fmt.Fprintln(&out, fmt.Errorf("reading %v", held))
			for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), strings.Trim(fmt.Sprint([]byte(canary)), "[]")} {
				if strings.Contains(out.String(), form) {
					t.Errorf("%T tells %s:\n%s", v, form, out.String())
				}
			}
		}
	}
}
