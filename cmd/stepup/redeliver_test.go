package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stepup/ciba/cibatest"
)

// redeliver runs `stepup redeliver` beside the service.
func (w *world) redeliver(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"redeliver", "--config", filepath.Join(w.dir, configFile)}, args...), nil, &out, &errs)
	return code, out.String(), errs.String()
}

// An operator has webhooks sent again beside the running service, by id and by time: the same id, the same bytes. What
// cannot be had is told.
func TestRedeliverCommand(t *testing.T) {
	type arrival struct{ id, body string }
	came := make(chan arrival, 20)
	var status atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		came <- arrival{r.Header.Get("webhook-id"), body.String()}
		w.Header().Set("Retry-After", "3600") // by itself nothing comes again while this test runs
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(receiver.Close)
	w := begin(t, func(yaml string) string {
		lines := strings.Split(yaml, "\n")
		for i, line := range lines {
			if strings.Contains(line, "name: ledger") {
				lines[i] = `      - {name: ledger, url: "` + receiver.URL + `", secrets_file: ledger.whsec}`
			}
		}
		return strings.Join(lines, "\n") + "audit_file: audit.jsonl\n"
	})
	arrive := func(what string) arrival {
		t.Helper()
		select {
		case a := <-came:
			return a
		case <-time.After(20 * time.Second):
			t.Fatal("waited in vain: " + what)
			return arrival{}
		}
	}
	denied := func(n int) (id string, first arrival) {
		t.Helper()
		w.op.Script(person(n), cibatest.Script{Polls: []cibatest.Step{{Kind: cibatest.Deny}}})
		asked, err := w.bank.ask(t.Context(), person(n))
		if err != nil {
			t.Fatal(err)
		}
		return asked.ID, arrive("the first attempt")
	}
	known := func(id, delivery string) {
		t.Helper()
		eventually(t, "the round is stored", func() bool {
			req, _ := http.NewRequest(http.MethodGet, w.bank.url+"/v1/step-ups/"+id, nil)
			req.Header.Set("Authorization", "Bearer "+w.bank.key)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				return false
			}
			defer res.Body.Close()
			var body bytes.Buffer
			_, _ = body.ReadFrom(res.Body)
			return strings.Contains(body.String(), delivery)
		})
	}
	status.Store(http.StatusOK)
	delivered, first := denied(1)
	known(delivered, `"status":"delivered"`)
	status.Store(http.StatusServiceUnavailable)
	failing, late := denied(2)
	known(failing, `"last_status":503`)
	status.Store(http.StatusOK)

	const sends = "A running service (role all or worker) sends what is due"
	code, out, _ := w.redeliver(t, "--caller", "bank", delivered, "su_00AAAAAAAAAAAAAAAAAAAA")
	if code != exitFailed || !strings.Contains(out, delivered+": due again: ledger\n") || !strings.Contains(out, "su_00AAAAAAAAAAAAAAAAAAAA: not sent again: caller bank has no such step-up\n") ||
		!strings.Contains(out, sends) {
		t.Errorf("by id: exit code %d, %s", code, out)
	}
	if again := arrive("the delivered one again"); again != first {
		t.Errorf("%v came again as %v", first, again)
	}
	if code, out, _ = w.redeliver(t, "--caller", "bank", "--from", "10m", "--until", "5m"); code != exitDone || out != "0 step-ups due again\n" {
		t.Errorf("another time: exit code %d, %s", code, out)
	}
	code, out, _ = w.redeliver(t, "--caller", "bank", "--webhook", "ledger", "--from", time.Now().Add(-time.Hour).Format(time.RFC3339))
	if code != exitDone || !strings.HasPrefix(out, "1 step-up due again\n"+sends) {
		t.Errorf("by time: exit code %d, %s", code, out)
	}
	if again := arrive("the failing one"); again != late {
		t.Errorf("%v came again as %v", late, again)
	}
	known(failing, `"status":"delivered"`)
	w.drain(t)
	if len(came) != 0 {
		t.Errorf("more came: %v", <-came)
	}
	if text, err := os.ReadFile(filepath.Join(w.dir, "audit.jsonl")); err != nil || bytes.Count(text, []byte(`"by":"operator"`)) != 3 {
		t.Errorf("the operator's acts are not in the audit log: %v\n%s", err, text)
	}
}

// Wrong usage is told before anything is touched.
func TestRedeliverUsage(t *testing.T) {
	w := prepare(t, asItIs)
	const id = "su_00AAAAAAAAAAAAAAAAAAAA"
	for _, c := range []struct {
		args string
		says string
	}{
		{"--caller bank", "needs the ids of step-ups, or --from TIME"},
		{"--caller bank --from 3h " + id, "either ids or --from"},
		{"--caller bank --until 3h " + id, "--until is for --from"},
		{"--caller bank --webhook ledger " + id, "--webhook is for --from"},
		{"--caller bank --from yesterday", "--from yesterday: must be a time such as"},
		{"--caller bank --from -3h", "--from"},
		{"--caller bank --from 3h --until 2026-11-21", "--until 2026-11-21: must be a time"},
		{"--caller bank --from 3h --until 4h", "which is not before"},
		{"--caller bnak " + id, "there is no caller bnak in the configuration; there is bank"},
		{"--caller bank --webhook legder --from 3h", "caller bank has no webhook legder; it has ledger"},
	} {
		if code, out, errs := w.redeliver(t, strings.Fields(c.args)...); code != exitUsage || !strings.Contains(errs, c.says) || out != "" {
			t.Errorf("%s: exit code %d, %q, %q", c.args, code, out, errs)
		}
	}
	text := read(t, filepath.Join(w.dir, configFile))
	before, rest, _ := strings.Cut(text, `url: "redis://`)
	_, after, _ := strings.Cut(rest, `"`)
	write(t, w.dir, configFile, before+"url: embedded"+after)
	if code, _, errs := w.redeliver(t, "--caller", "bank", id); code != exitUsage || !strings.Contains(errs, "redis.url is embedded") {
		t.Errorf("embedded: exit code %d, %q", code, errs)
	}
	write(t, w.dir, configFile, before+"url: redis://127.0.0.1:1/0"+after)
	if code, _, errs := w.redeliver(t, "--caller", "bank", id); code != exitFailed || !strings.Contains(errs, "redis.url: ") {
		t.Errorf("no Redis: exit code %d, %q", code, errs)
	}
}
