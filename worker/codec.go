package worker

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unique"
)

// A record in Redis is a hash with short field names; times are Unix milliseconds, 0
// for none. In flight no value is longer than 64 bytes, so that Redis keeps the hash as
// a listpack, in a third of the memory: whatever is longer belongs somewhere else.
// Fields that are not known are passed over: a later version may write them.

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
	fields := []any{
		"cal", r.Caller, "prov", r.Provider, "st", string(r.State), "cre", ms(r.Created), "own", "", "gen", 0,
		"iv", r.Interval.Milliseconds(), "nb", 0, "mem", r.Member, "hk", strings.Join(r.Hooks, " "),
	}
	if r.Trace != "" {
		fields = append(fields, "tp", r.Trace)
	}
	return fields
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

// shared is one copy of what ten thousand records have in common.
func shared(s string) string { return unique.Make(s).Value() }

// decodeRecord reads the record of an id; ok is false when there is none.
func decodeRecord(id string, h map[string]string) (r record, ok bool) {
	if h["st"] == "" {
		return record{}, false
	}
	r = record{
		ID: id, Caller: shared(h["cal"]), Provider: shared(h["prov"]), State: State(shared(h["st"])),
		Reason:  Reason{Code: h["code"], ProviderError: h["perr"], TraceID: h["tr"]},
		Created: fromMS(h["cre"]), Expires: fromMS(h["exp"]), Completed: fromMS(h["com"]), Purged: fromMS(h["pur"]),
		Owner: shared(h["own"]), NotBefore: fromMS(h["nb"]), Ambiguous: h["amb"] == "1",
		PendingAt: fromMS(h["pa"]), RawAt: fromMS(h["ra"]), Tombstone: h["end"], Member: h["mem"], Trace: h["tp"], Hooks: strings.Fields(shared(h["hk"])),
	}
	r.Gen, _ = strconv.ParseInt(h["gen"], 10, 64)
	iv, _ := strconv.ParseInt(h["iv"], 10, 64)
	r.Interval = time.Duration(iv) * time.Millisecond
	if dl := h["dl"]; dl != "" {
		if err := json.Unmarshal([]byte(dl), &r.Deliveries); err != nil {
			r.Deliveries = nil
		}
	}
	r.acknowledge(h["ak"])
	return r, true
}
