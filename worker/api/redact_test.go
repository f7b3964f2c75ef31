package api

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Neither a request in hand nor the set of callers prints what it holds.
func TestCallsDoNotPrint(t *testing.T) {
	const canary = "S8765432Z"
	cursor := canary
	hash := KeyHash([]byte(strings.Repeat(canary, 4)[:len(KeyHash{})]))
	callers, err := NewCallers(map[string]Caller{"bank": {Keys: []KeyHash{hash}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{
		call[createBody]{header: http.Header{"Authorization": {canary}}, query: url.Values{"reference": {canary}}, body: createBody{LoginHint: canary}},
		call[acknowledgeBody]{body: acknowledgeBody{[]string{canary}}}, call[spanBody]{body: spanBody{From: canary, Webhook: &cursor, Cursor: &cursor}},
		callers, *callers, hash, Caller{Keys: []KeyHash{hash}},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			out := fmt.Sprintf(verb, v) + fmt.Sprintf(verb, &v) + fmt.Sprintf(verb, []any{v})
			for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), strings.Trim(fmt.Sprint([]byte(canary)), "[]")} {
				if strings.Contains(out, form) {
					t.Errorf("%T by %s: %s", v, verb, out)
				}
			}
		}
	}
}
