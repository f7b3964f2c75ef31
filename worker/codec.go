package worker

import (
	"encoding/json"
	"strconv"
	"time"
)

// A record in Redis is a hash with short field names; times are Unix milliseconds, 0 for none.

func ms(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// msUp is ms rounded up, for times before which nothing may happen.
func msUp(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return ms(t.Add(time.Millisecond - 1))
}

func fromMS(s string) time.Time {
	n, _ := strconv.ParseInt(s, 10, 64)
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(n)
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// fields is a new record as field and value pairs.
func (r *record) fields() []any {
	return []any{
		"id", r.ID, "cal", r.Caller, "prov", r.Provider, "st", string(r.State),
		"cre", ms(r.Created), "own", "", "gen", 0, "wk", 0, "iv", r.Interval.Milliseconds(), "nb", 0, "amb", "0",
		"per", r.Person, "mem", r.Member, "dl", r.deliveries(),
	}
}

// finalFields is what the final state changes.
func (r *record) finalFields() []any {
	_, due := r.nextDelivery()
	return []any{
		"st", string(r.State), "code", r.Reason.Code, "perr", r.Reason.ProviderError, "tr", r.Reason.TraceID,
		"com", ms(r.Completed), "end", r.Tombstone, "dl", r.deliveries(), "due", flag(due),
	}
}

func (r *record) deliveries() string {
	b, _ := json.Marshal(r.Deliveries) // plain fields only
	return string(b)
}

// decodeRecord reads a record; ok is false when there is none.
func decodeRecord(h map[string]string) (r record, ok bool) {
	if h["id"] == "" {
		return record{}, false
	}
	r = record{
		ID: h["id"], Caller: h["cal"], Provider: h["prov"], State: State(h["st"]),
		Reason:  Reason{Code: h["code"], ProviderError: h["perr"], TraceID: h["tr"]},
		Created: fromMS(h["cre"]), Expires: fromMS(h["exp"]), Completed: fromMS(h["com"]), Purged: fromMS(h["pur"]),
		Owner: h["own"], NotBefore: fromMS(h["nb"]), Ambiguous: h["amb"] == "1",
		PendingAt: fromMS(h["pa"]), RawAt: fromMS(h["ra"]), Tombstone: h["end"], Person: h["per"], Member: h["mem"],
	}
	r.Gen, _ = strconv.ParseInt(h["gen"], 10, 64)
	r.Wakes, _ = strconv.ParseInt(h["wk"], 10, 64)
	iv, _ := strconv.ParseInt(h["iv"], 10, 64)
	r.Interval = time.Duration(iv) * time.Millisecond
	if err := json.Unmarshal([]byte(h["dl"]), &r.Deliveries); err != nil {
		r.Deliveries = nil
	}
	return r, true
}
