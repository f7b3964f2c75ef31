package worker

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"stepup/ciba"
)

// Step-ups that another version of the program wrote, with fields that
// this one does not know or without some that this one writes. They are taken to
// the end, and so are their deliveries.
func TestRecordsOfAnotherVersion(t *testing.T) {
	// What a record can do without: what remembers a wake-up, makes a repeat of a
	// command known or only adds to a reason.
	optional := []string{"amb", "pa", "ra", "wn", "woken", "wk", "op", "fop", "mem", "hk", "tr", "perr", "code", "pur"}
	inBigBubble(t, calm, func(t *testing.T, w *town) {
		rdb := w.onlooker.opts.Store
		seal := func(r *record, field string) string {
			return w.settings.Load().Sealer.seal(r, field, []byte(`{"new":true}`))
		}
		changes := map[string]func(r *record){
			"unknown fields": func(r *record) {
				rdb.HSet(t.Context(), keyRecord(r.ID), "zz", "1", "v", "99")
				for _, key := range []string{keyPersonal(r.ID), keyEvents(r.ID)} {
					if rdb.Exists(t.Context(), key).Val() == 1 {
						rdb.HSet(t.Context(), key, "zz", seal(r, "zz"))
					}
				}
			},
			"unknown members of a delivery": func(r *record) {
				dl := rdb.HGet(t.Context(), keyRecord(r.ID), "dl").Val()
				rdb.HSet(t.Context(), keyRecord(r.ID), "dl", strings.ReplaceAll(dl, `{"w":`, `{"zz":{"a":[1]},"w":`))
			},
			"unknown members of what is sealed": func(r *record) {
				s := w.settings.Load().Sealer
				if blob := rdb.Get(t.Context(), keyPrompt(r.ID)).Val(); blob != "" {
					plain, err := s.open(r, fieldPrompt, blob)
					if err != nil {
						t.Fatal(err)
					}
					rdb.Set(t.Context(), keyPrompt(r.ID), s.seal(r, fieldPrompt, append([]byte(`{"zz":[1],`), plain[1:]...)), redis.KeepTTL)
				}
			},
			"all that is optional is missing": func(r *record) { rdb.HDel(t.Context(), keyRecord(r.ID), optional...) },
		}
		for _, f := range optional {
			changes[f+" is missing"] = func(r *record) { rdb.HDel(t.Context(), keyRecord(r.ID), f) }
		}
		approve := outcome{name: "approve", answers: []any{&ciba.Pending{}, &ciba.Pending{}, &ciba.Pending{}, identified, consumed}, state: Approved, expires: 5 * time.Minute}
		deliver := outcome{name: "deliver", answers: []any{identified, consumed}, state: Approved, hooks: []int{500, 500, 500, 500}, expires: 5 * time.Minute}
		of := map[*life]string{}
		for name := range changes {
			for _, o := range []outcome{approve, deliver} {
				x := w.begin(o, nil)
				x.live()
				of[x] = name
			}
		}
		time.Sleep(5 * time.Second)
		w.stop() // as in a deploy: the old version lets go
		for x, name := range of {
			r, err := w.onlooker.store.read(t.Context(), x.id)
			if err != nil || r.Owner != "" || r.State.Final() != (x.outcome.name == "deliver") {
				t.Fatalf("%s, %s: %+v, %v", name, x.outcome.name, r, err)
			}
			changes[name](r)
			if x.outcome.name == "deliver" { // and nothing of asynq was kept
				rdb.ZAdd(t.Context(), keyOpen(r.shard()), redis.Z{Score: 1, Member: r.ID})
			}
		}
		next := w.another()
		defer next.stop()
		w.settles(w.lives)
		for x, name := range of {
			x.outcome.name = name + ", " + x.outcome.name
			x.keeps()
		}
		w.leavesNoWork()
	})
}
