package worker

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"stepup/ciba"
)

// pair is two step-ups of one caller in the hands of somebody who writes Redis:
// one person approves, the other one refuses.
type pair struct {
	*town
	t       *testing.T
	name    string
	when    string
	yes, no *life
	rdb     redis.UniversalClient
	early   map[string]any // what Redis held of both, while both were pending
}

// edit is what is done to a pair. It wants an approval told of the person who refused.
type edit func(p *pair)

// keysOf are all keys of a step-up alone.
func keysOf(id string) []string {
	return []string{keyRecord(id), keyPrompt(id), keyPersonal(id), keyEvents(id)}
}

func (p *pair) field(key, name string) string { return p.rdb.HGet(p.t.Context(), key, name).Val() }

func (p *pair) write(key string, fields ...any) {
	if err := p.rdb.HSet(p.t.Context(), key, fields...).Err(); err != nil {
		p.t.Errorf("%s: %v", p.name, err)
	}
}

// over copies a key over another one, and leaves the other one's fields that it lacks.
func (p *pair) over(from, to string) {
	switch p.rdb.Type(p.t.Context(), from).Val() {
	case "string":
		p.say(to, p.rdb.Get(p.t.Context(), from).Val())
	case "hash":
		for k, v := range p.rdb.HGetAll(p.t.Context(), from).Val() {
			p.write(to, k, v)
		}
	}
}

func (p *pair) say(key, text string) {
	if err := p.rdb.Set(p.t.Context(), key, text, redis.KeepTTL).Err(); err != nil {
		p.t.Errorf("%s: %v", p.name, err)
	}
}

// entry is what the idempotency key of a request keeps.
func (p *pair) entry(x *life) existing {
	return *parseExisting(p.rdb.Get(p.t.Context(), p.idem(x)).Val())
}

func shardIn(id string) int { n, _ := shardOf(id); return n }

// exchange writes one's idempotency entry with parts of the other's.
func (p *pair) exchange(how func(own, other existing) existing) {
	p.say(p.idem(p.no), how(p.entry(p.no), p.entry(p.yes)).String())
}

// idem is the key of a request's idempotency entry.
func (p *pair) idem(x *life) string {
	q := x.request()
	c := p.newCreate(p.settings.Load(), &q)
	return keyIdem(c.rec.shard(), c.idem)
}

// edits are what can be written, by name. What is sealed is edited, exchanged and
// rolled back; what is plain says what the writer likes.
func edits() map[string]edit {
	all := map[string]edit{
		"the state says approved": func(p *pair) { p.write(keyRecord(p.no.id), "st", "approved", "code", "", "due", "1") },
		"the state says approved long ago": func(p *pair) {
			p.write(keyRecord(p.no.id), "st", "approved", "code", "", "com", time.Now().Add(-time.Hour).UnixMilli())
		},
		"the end is the other's": func(p *pair) {
			p.write(keyRecord(p.no.id), "st", "approved", "end", p.field(keyRecord(p.yes.id), "end"), "com", p.field(keyRecord(p.yes.id), "com"))
		},
		"the deliveries are the other's": func(p *pair) {
			p.write(keyRecord(p.no.id), "dl", p.field(keyRecord(p.yes.id), "dl"), "due", "1")
			p.over(keyEvents(p.yes.id), keyEvents(p.no.id))
		},
		"the deliveries are the other's, to be sent again": func(p *pair) {
			dl := strings.ReplaceAll(p.field(keyRecord(p.yes.id), "dl"), `"delivered"`, `"pending"`)
			p.write(keyRecord(p.no.id), "dl", dl, "due", "1", "st", "approved", "own", "")
			p.over(keyEvents(p.yes.id), keyEvents(p.no.id))
			p.over(keyPersonal(p.yes.id), keyPersonal(p.no.id))
			p.rdb.ZAdd(p.t.Context(), keyOpen(shardIn(p.no.id)), redis.Z{Score: 1, Member: p.no.id})
		},
		"everything is the other's": func(p *pair) {
			from, to := keysOf(p.yes.id), keysOf(p.no.id)
			for i := range from {
				p.over(from[i], to[i])
			}
		},
		"everything but the record is the other's": func(p *pair) {
			p.write(keyRecord(p.no.id), "st", "approved", "due", "1")
			from, to := keysOf(p.yes.id)[1:], keysOf(p.no.id)[1:]
			for i := range from {
				p.over(from[i], to[i])
			}
		},
		"nobody owns it":            func(p *pair) { p.write(keyRecord(p.no.id), "own", "") },
		"the owner is another":      func(p *pair) { p.write(keyRecord(p.no.id), "own", "w_nobody") },
		"the generation is another": func(p *pair) { p.write(keyRecord(p.no.id), "gen", 99) },
		"the idempotency key names the other": func(p *pair) {
			p.exchange(func(own, other existing) existing { return existing{other.id, own.fingerprint, own.answer} })
		},
		"the idempotency key has the other's answer": func(p *pair) {
			p.exchange(func(own, other existing) existing { return existing{other.id, own.fingerprint, other.answer} })
		},
		"the idempotency key has the other's answer and its own id": func(p *pair) {
			p.exchange(func(own, other existing) existing { return existing{own.id, own.fingerprint, other.answer} })
		},
		"the idempotency key lost its answer and names the other": func(p *pair) {
			p.exchange(func(own, other existing) existing { return existing{other.id, own.fingerprint, ""} })
		},
		"the whole idempotency entry is the other's": func(p *pair) {
			p.exchange(func(_, other existing) existing { return other })
		},
		"the caller is another":   func(p *pair) { p.write(keyRecord(p.no.id), "cal", "other") },
		"the provider is another": func(p *pair) { p.write(keyRecord(p.no.id), "prov", "sgid") },
		"the expiry is another":   func(p *pair) { p.write(keyRecord(p.no.id), "exp", time.Now().Add(time.Hour).UnixMilli()) },
		"no poll is due":          func(p *pair) { p.write(keyRecord(p.no.id), "nb", 0, "iv", 1) },
	}
	all["the prompt is edited"] = func(p *pair) {
		if blob := p.rdb.Get(p.t.Context(), keyPrompt(p.no.id)).Val(); blob != "" {
			p.say(keyPrompt(p.no.id), flipped(blob))
		}
	}
	all["the prompt is the other's"] = func(p *pair) { p.over(keyPrompt(p.yes.id), keyPrompt(p.no.id)) }
	for _, name := range []string{"face", "result"} {
		all["sealed "+name+" is edited"] = func(p *pair) {
			if blob := p.field(keyPersonal(p.no.id), name); blob != "" {
				p.write(keyPersonal(p.no.id), name, flipped(blob))
			}
		}
		all["sealed "+name+" is the other's"] = func(p *pair) {
			p.write(keyRecord(p.no.id), "st", p.field(keyRecord(p.yes.id), "st"))
			p.write(keyPersonal(p.no.id), name, p.field(keyPersonal(p.yes.id), name))
		}
		all["sealed "+name+" is another of its own"] = func(p *pair) {
			p.write(keyPersonal(p.no.id), name, p.field(keyRecord(p.no.id), "end"))
		}
	}
	if !underRace { // which needs no more of them than these
		maps.Copy(all, moves())
		maps.Copy(all, copies())
	}
	all[rolledBack] = func(p *pair) { p.restore() }
	return all
}

// stages are the moments at which somebody writes: the one who refuses is still
// being asked, the refusal waits for its webhook, everything is over, and the
// results can be fetched no more.
var stages = []struct {
	name string
	at   time.Duration
}{{"pending", 5 * time.Second}, {"delivering", 11 * time.Second}, {"over", 40 * time.Second}, {"gone", 90 * time.Second}}

// Whoever writes Redis can make an answer or a webhook fail, but no
// edit, exchange or roll-back makes the service say that somebody approved who did not.
func TestEditedRedisNeverApproves(t *testing.T) {
	t.Parallel()
	briefly := func(o *Options, s *Settings) { calm(o, s); s.ResultTTL = time.Minute }
	inBigBubble(t, briefly, func(t *testing.T, w *town) {
		p := w.settings.Load().Providers["singpass"]
		w.set.Providers = map[string]ProviderSettings{"singpass": p, "sgid": p}
		w.set.Callers["other"] = Caller{Providers: []string{"singpass", "sgid"}, MayList: true}
		w.Reload(w.set)
		all := edits()
		var pairs []*pair
		for _, stage := range stages {
			for name := range all {
				pairs = append(pairs, w.newPair(t, name, stage.name))
			}
		}
		begin := time.Now()
		time.Sleep(time.Second)
		for _, p := range pairs {
			p.early = p.backup()
		}
		for _, stage := range stages {
			time.Sleep(time.Until(begin.Add(stage.at)))
			for _, p := range pairs {
				if p.when == stage.name {
					all[p.name](p)
					p.checkAnswers(stage.name == "over" || stage.name == "gone")
				}
			}
		}
		for range 2 {
			time.Sleep(time.Minute)
			for _, p := range pairs {
				p.checkAnswers(false)
			}
			checkList(t, w, pairs)
			if page, err := w.List(t.Context(), "other", Filter{Limit: 100}); err != nil || len(page.StepUps) != 0 {
				t.Errorf("another caller's list: %s, %v", asJSON(t, page), err)
			}
		}
		for _, p := range pairs {
			p.checkWebhooks()
		}
		t.Logf("%d edits at %d moments", len(all), len(stages))
	})
}

const rolledBack = "all is as it was while pending"

func (w *town) newPair(t *testing.T, name, when string) *pair {
	p := &pair{town: w, t: t, name: name, when: when, rdb: w.onlooker.opts.Store}
	// The one approves at once; the other one's refusal comes after 8 s, and its
	// webhook is taken at the fourth attempt.
	p.yes = w.begin(outcome{name: "yes", answers: []any{identified, consumed}, state: Approved}, nil)
	p.no = w.begin(outcome{name: "no", answers: []any{&ciba.Pending{}, &ciba.Pending{}, &ciba.Pending{}, denial, consumed},
		state: Denied, hooks: []int{500, 500, 500}}, nil)
	p.yes.live()
	p.no.live()
	return p
}

func (p *pair) String() string { return p.name + ", " + p.when }

// backup is what Redis holds of both.
func (p *pair) backup() map[string]any {
	all := map[string]any{}
	for _, x := range []*life{p.yes, p.no} {
		for _, key := range p.allKeys(x) {
			switch p.rdb.Type(p.t.Context(), key).Val() {
			case "string":
				all[key] = p.rdb.Get(p.t.Context(), key).Val()
			case "hash":
				all[key] = p.rdb.HGetAll(p.t.Context(), key).Val()
			}
		}
	}
	return all
}

// allKeys are those of a step-up, its idempotency entry and its person's limit.
func (p *pair) allKeys(x *life) []string {
	q := x.request()
	return append(keysOf(x.id), p.idem(x), p.newCreate(p.settings.Load(), &q).person)
}

func (p *pair) restore() {
	ctx := p.t.Context()
	for _, x := range []*life{p.yes, p.no} {
		for _, key := range p.allKeys(x) {
			p.rdb.Del(ctx, key)
			switch v := p.early[key].(type) {
			case string:
				p.rdb.Set(ctx, key, v, time.Hour)
			case map[string]string:
				p.rdb.HSet(ctx, key, v)
			}
		}
		p.rdb.ZAdd(ctx, keyOpen(shardIn(x.id)), redis.Z{Score: 1, Member: x.id})
	}
}

// checkAnswers asks for both step-ups in every way there is; acting also in those
// that change something.
func (p *pair) checkAnswers(acting bool) {
	for _, x := range []*life{p.yes, p.no} {
		ways := map[string]func() (StepUp, error){
			"show":   func() (StepUp, error) { return p.Show(p.t.Context(), "bank", x.id) },
			"repeat": func() (StepUp, error) { return p.Ask(p.t.Context(), x.request()) },
		}
		if acting {
			ways["redeliver"] = func() (StepUp, error) { return p.Redeliver(p.t.Context(), "bank", x.id) }
			ways["cancel"] = func() (StepUp, error) { return p.Cancel(p.t.Context(), "bank", x.id) }
		}
		for way, ask := range ways {
			if v, err := ask(); err == nil || v.ID != "" {
				p.check(x, way, v)
			}
		}
	}
}

// checkList reads the caller's whole list.
func checkList(t *testing.T, w *town, pairs []*pair) {
	of := map[string]*pair{}
	for _, p := range pairs {
		of[p.no.id], of[p.yes.id] = p, p
	}
	for f := (Filter{Limit: 100}); ; {
		page, err := w.List(t.Context(), "bank", f)
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		for _, v := range page.StepUps {
			p := of[v.ID]
			if p == nil {
				t.Errorf("the list tells of nobody's: %s", asJSON(t, v))
				continue
			}
			x := p.no
			if v.ID == p.yes.id {
				x = p.yes
			}
			p.check(x, "list", v)
			if v.Reference != nil && *v.Reference != "ref-"+x.key {
				t.Errorf("%s: the list has another's reference: %s", p, asJSON(t, v))
			}
		}
		if f.Cursor = page.NextCursor; f.Cursor == "" {
			return
		}
	}
}

// check judges what was said of one of the two.
func (p *pair) check(x *life, way string, v StepUp) {
	truths := []State{Pending, Unknown, x.state}
	if p.when == "over" || p.when == "gone" { // checkAnswers itself cancels what was put back to pending
		truths = append(truths, Cancelled)
	}
	if v.ID != x.id || !slices.Contains(truths, v.Status) || v.Identity != nil && (x != p.yes || *v.Identity.NRIC != x.hint) {
		p.t.Errorf("%s: %s of the one who said %s tells of %s: %s", p, way, x.outcome.name, p.whose(v.ID), v.Status)
	}
}

func (p *pair) whose(id string) string {
	switch id {
	case p.yes.id:
		return "the one who said yes"
	case p.no.id:
		return "the one who said no"
	}
	return fmt.Sprintf("%q", id)
}

// checkWebhooks: an approval is told of the one who approved, and in no other's name.
func (p *pair) checkWebhooks() {
	for _, x := range []*life{p.yes, p.no} {
		for _, g := range p.desk.of(x.id) {
			p.check(x, "a webhook "+g.Type, g.Data)
			named := g.Data.Reference != nil && *g.Data.Reference == "ref-"+x.key
			lost := g.Data.Reference == nil && (g.Data.Status != Approved || g.Type == typeExpired) // an approval names it
			if !named && !lost || g.Type != typeExpired && g.Type != "step_up."+string(g.Data.Status) {
				p.t.Errorf("%s: webhook %s", p, g.body)
			}
		}
	}
}
