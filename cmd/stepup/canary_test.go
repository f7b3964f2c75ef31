package main

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"stepup/ciba/cibatest"
)

// plant puts a word into every place that is searched, on the ways that lead there.
func (c *cage) plant(t *testing.T, rdb *redis.Client, word string) {
	t.Helper()
	c.debug().Debug("planted", "error", fmt.Errorf("with %q", word))
	_, span := otel.Tracer("planted").Start(t.Context(), "planted")
	span.SetAttributes(attribute.String("word", word))
	span.End()
	counter, err := otel.Meter("planted").Int64Counter("planted")
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(t.Context(), 1, metric.WithAttributes(attribute.String("word", word)))
	if err := rdb.HSet(t.Context(), "stepup:planted", "field", "{"+word+"}").Err(); err != nil {
		t.Fatal(err)
	}
	queue := asynq.NewClientFromRedisClient(rdb)
	if _, err := queue.Enqueue(asynq.NewTask("planted", []byte("x"+word)), asynq.Queue("planted")); err != nil {
		t.Fatal(err)
	}
	c.ask(t, http.MethodPost, "/v1/step-ups", `{"`+word+`":1}`, "Idempotency-Key", "planted", "Content-Type", "application/json") // the member is told back
	c.run(t, flow{name: "planted", want: "denied", members: map[string]any{"login_hint": c.person(), "reference": word},
		script: cibatest.Script{Polls: []cibatest.Step{{Kind: cibatest.Deny}}}})
	fmt.Fprintln(&c.admins, word)
	fmt.Fprintln(&c.receivers.bare, word)
	fmt.Fprintln(&c.receivers.sealed, word)
	fmt.Fprintln(&c.provider, word)
	write(t, c.dir, configFile, strings.Replace(c.read(t, configFile), "limits:", word+": 1\nlimits:", 1))
	c.check(t)
	f, err := os.OpenFile(c.dir+"/audit.jsonl", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprintf(f, "{\"planted\":%q}\n", word)
}

// withTokens may have tokens: an identity's, or what is encrypted to the receiver.
var withTokens = []string{inProvider, inAnswers, inFull, inSealed}

// A whole service is driven through everything that can happen to it, with unique words in every place that is personal
// or secret. Afterwards everything that was written anywhere is searched for them.
func TestNothingPersonalIsTold(t *testing.T) {
	c := openCage(t)
	ids := c.runAll(t)
	rdb := c.client(t)
	tasks := c.tasks(t, rdb)
	c.again(t, ids)
	c.operators(t, ids)
	c.misuse(t)
	c.mistakes(t)
	c.redisDies(t)
	rdb = c.client(t)
	planted := "p" + strings.ToLower(rand.Text())
	c.plant(t, rdb, planted)
	tasks += c.tasks(t, rdb)
	if err := rdb.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	all := sinks{
		inPage: c.metrics(t), inTasks: tasks, inProblems: c.problems.String(), inAnswers: c.answers.String(),
		inAdmin: c.admins.String(), inCheck: c.checked.String(), inProvider: c.provider.String(), inFull: c.receivers.full.String(), inBare: c.receivers.bare.String(), inSealed: c.receivers.sealed.String(),
		inKeys: c.keys(t, rdb), inRDB: c.files(t, "dump.rdb"), inAOF: c.files(t, "appendonlydir/*"), inCommands: c.commands.String(),
	}
	eventually(t, "the webhooks that failed are sent again", c.receivers.planless)
	c.stop()
	<-c.ended
	all[inLog], all[inAudit] = c.log.String(), c.read(t, "audit.jsonl")
	all[inSpans], all[inCounts] = c.telemetry.traced.String(), c.telemetry.counted.String()

	if !strings.Contains(all[inSealed], `"encrypted":"ey`) {
		t.Error("nothing was encrypted")
	}
	for _, found := range c.search(all) {
		t.Error(found)
	}
	for name, text := range all {
		if at := anyToken.FindString(text); at != "" && !slices.Contains(withTokens, name) {
			t.Errorf("a token in %s: %.20s", name, at)
		}
		look := canaries{words: map[string]canary{}}
		look.add(planted, "the planted word")
		if len(look.search(sinks{name: text})) == 0 {
			t.Errorf("what was planted in %s was not found, so finding nothing there proves nothing", name)
		}
	}
	size := 0
	for _, text := range all {
		size += len(text)
	}
	t.Logf("%d words in %d KiB of %d places", len(c.words), size>>10, len(all))
}
