package worker

import (
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// sealedPlaces is where sealed blobs lie. An event can be several.
var sealedPlaces = []string{"prompt", "end", "face", "result", "event", "answer"}

// moves are all ways to put a blob that may speak of an approval, or of a question
// that is still open, where another one belongs: from each place to each, of the
// other one as it is, and of both as it was while they were pending. The plain state
// says approved, and that it is to be told.
func moves() map[string]edit {
	all := map[string]edit{}
	for _, to := range sealedPlaces {
		for _, from := range sealedPlaces {
			all[to+" is the other's "+from] = move(to, func(p *pair) string { return p.sealed(p.yes, from) })
		}
		for _, from := range []string{"prompt", "answer"} {
			all[to+" is the other's "+from+" of before"] = move(to, func(p *pair) string { return p.before(p.yes, from) })
			all[to+" is its own "+from+" of before"] = move(to, func(p *pair) string { return p.before(p.no, from) })
		}
	}
	return all
}

// move puts a blob, if there is one, to a place of the one who refuses.
func move(to string, blob func(*pair) string) edit {
	return func(p *pair) {
		if b := blob(p); b != "" {
			p.put(p.no, to, b)
		}
		p.write(keyRecord(p.no.id), "st", "approved", "code", "", "own", "", "due", "1")
		p.rdb.ZAdd(p.t.Context(), keyOpen(shardIn(p.no.id)), redis.Z{Score: 1, Member: p.no.id})
		p.rdb.ZAdd(p.t.Context(), keyDue(shardIn(p.no.id)), redis.Z{Score: 1, Member: p.no.id})
	}
}

// before is the prompt or the answer as it was while both were pending.
func (p *pair) before(x *life, place string) string {
	if place == "answer" {
		entry, _ := p.early[p.idem(x)].(string)
		return parseExisting(entry).answer
	}
	blob, _ := p.early[keyPrompt(x.id)].(string)
	return blob
}

// sealed is the blob at a place, empty when there is none.
func (p *pair) sealed(x *life, place string) string {
	switch place {
	case "prompt":
		return p.rdb.Get(p.t.Context(), keyPrompt(x.id)).Val()
	case "end":
		return p.field(keyRecord(x.id), "end")
	case "answer":
		return p.entry(x).answer
	case "event":
		for _, name := range p.eventsOf(x) {
			return p.field(name.key, name.field)
		}
		return ""
	}
	return p.field(keyPersonal(x.id), place)
}

// spot is a field of a hash.
type spot struct{ key, field string }

// eventsOf are the spots of a step-up's sealed events.
func (p *pair) eventsOf(x *life) (all []spot) {
	for field := range p.rdb.HGetAll(p.t.Context(), keyPersonal(x.id)).Val() {
		if strings.HasPrefix(field, "ev:") {
			all = append(all, spot{keyPersonal(x.id), field})
		}
	}
	for field := range p.rdb.HGetAll(p.t.Context(), keyEvents(x.id)).Val() {
		all = append(all, spot{keyEvents(x.id), field})
	}
	return all
}

func (p *pair) put(x *life, place, blob string) {
	switch place {
	case "prompt":
		if err := p.rdb.Set(p.t.Context(), keyPrompt(x.id), blob, time.Hour).Err(); err != nil {
			p.t.Errorf("%s: %v", p.name, err)
		}
	case "end":
		p.write(keyRecord(x.id), "end", blob)
	case "answer":
		own := p.entry(x)
		p.say(p.idem(x), existing{own.id, own.fingerprint, blob}.String())
	case "event":
		for _, s := range p.eventsOf(x) {
			p.write(s.key, s.field, blob)
		}
	default:
		p.write(keyPersonal(x.id), place, blob)
	}
}

// list puts the one who refuses on a caller's list.
func (p *pair) list(caller string) {
	p.rdb.ZAdd(p.t.Context(), keyList(shardIn(p.no.id), caller), redis.Z{Score: float64(time.Now().UnixMilli()), Member: p.no.id})
}

// copies give the record of the one who refuses each plain field of the other's
// alone, and the indexes members that do not belong there.
func copies() map[string]edit {
	all := map[string]edit{
		"another caller's list names it": func(p *pair) { p.list("other") },
		"another caller has it and lists it": func(p *pair) {
			p.list("other")
			p.write(keyRecord(p.no.id), "cal", "other")
		},
		"another caller has the other one and lists it": func(p *pair) {
			p.rdb.ZAdd(p.t.Context(), keyList(shardIn(p.yes.id), "other"), redis.Z{Score: 1, Member: p.yes.id})
			p.write(keyRecord(p.yes.id), "cal", "other")
		},
		"nothing is open": func(p *pair) {
			p.rdb.ZRem(p.t.Context(), keyOpen(shardIn(p.no.id)), p.no.id)
			p.rdb.ZRem(p.t.Context(), keyDue(shardIn(p.no.id)), p.no.id)
		},
		"it is due and pending": func(p *pair) {
			p.write(keyRecord(p.no.id), "st", "pending", "own", "", "due", "1")
			p.rdb.ZAdd(p.t.Context(), keyDue(shardIn(p.no.id)), redis.Z{Score: 1, Member: p.no.id})
		},
		"the record is the other's, the rest is its own": func(p *pair) { p.over(keyRecord(p.yes.id), keyRecord(p.no.id)) },
		"the record is as it was": func(p *pair) {
			before, _ := p.early[keyRecord(p.no.id)].(map[string]string)
			p.rdb.Del(p.t.Context(), keyRecord(p.no.id))
			p.write(keyRecord(p.no.id), before)
		},
		"the record says pending again": func(p *pair) {
			p.write(keyRecord(p.no.id), "st", "pending", "own", "")
			p.put(p.no, "prompt", p.before(p.no, "prompt"))
		},
		"nobody counts the person's pushes": func(p *pair) {
			q := p.no.request()
			p.rdb.Del(p.t.Context(), p.newCreate(p.settings.Load(), &q).person)
		},
	}
	for _, field := range []string{"cre", "exp", "own", "gen", "iv", "nb", "mem", "hk", "amb", "pa", "ra", "code", "perr", "tr", "com", "pur", "dl", "due", "end", "op"} {
		all["the record's "+field+" is the other's"] = func(p *pair) {
			p.write(keyRecord(p.no.id), field, p.field(keyRecord(p.yes.id), field))
		}
	}
	return all
}
