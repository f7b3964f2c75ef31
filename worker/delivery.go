package worker

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DeliveryStatus is how one event fares at one webhook.
type DeliveryStatus string

// The delivery states.
const (
	DeliveryPending     DeliveryStatus = "pending"
	DeliveryDelivered   DeliveryStatus = "delivered"
	DeliveryStopped     DeliveryStatus = "stopped" // the receiver answered 410
	DeliveryUndelivered DeliveryStatus = "undelivered"
)

// Delivery is the bookkeeping of one event at one webhook.
type Delivery struct {
	Webhook  string         `json:"w"`
	Event    string         `json:"e,omitempty"` // webhook-id: stable over attempts and redeliveries
	Type     string         `json:"t,omitempty"`
	Status   DeliveryStatus `json:"s"`
	Attempts int            `json:"n,omitempty"`
	Last     int            `json:"l,omitempty"`
	Next     int64          `json:"d,omitempty"` // ms; when the next attempt is due
	Until    int64          `json:"u,omitempty"` // ms; no attempt after
	Personal bool           `json:"p,omitempty"` // the body carries an identity and ends with the result
	Tries    int            `json:"r,omitempty"` // failed attempts since the last redeliver: the place in the schedule
	Full     int            `json:"b,omitempty"` // how often in a row the endpoint had no turn left
	Follower string         `json:"f,omitempty"` // event id of the delivery_expired that follows an undelivered identity
	Again    bool           `json:"x,omitempty"` // it was taken before it was sent again: it is never undelivered
	Pull     bool           `json:"q,omitempty"` // waits to be pulled; nothing is sent
	Log      []attempt      `json:"g,omitempty"` // the last attempts
}

// due reports whether an attempt is due at now.
func (d *Delivery) due(now time.Time) bool {
	return d.Status == DeliveryPending && d.Event != "" && d.Next <= now.UnixMilli() && now.UnixMilli() <= d.Until
}

// nextDelivery is when the earliest pending attempt is due; ok is false when none is pending.
func (r *record) nextDelivery() (at time.Time, ok bool) {
	return r.earliest(func(*Delivery) bool { return true })
}

// nextSend is when the earliest attempt is due that a task is queued for; ok is false
// where none is. What waits to be pulled needs no task: the sweeper ends it.
func (r *record) nextSend() (at time.Time, ok bool) {
	return r.earliest(func(d *Delivery) bool { return !d.Pull })
}

// earliest is when the first of those pending deliveries is due that count.
func (r *record) earliest(counts func(*Delivery) bool) (at time.Time, ok bool) {
	for i := range r.Deliveries {
		d := &r.Deliveries[i]
		if d.Status != DeliveryPending || d.Event == "" || !counts(d) {
			continue
		}
		if t := time.UnixMilli(d.Next); !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	return at, ok
}

// wait leaves a delivery to whoever pulls it. Only its end has a time.
func (d *Delivery) wait() { d.Pull, d.Next = true, d.Until+1 }

// fails reports whether somebody should look at how it is delivered.
func (d *Delivery) fails() bool {
	return d.Status == DeliveryUndelivered || d.Status == DeliveryPending && d.Tries > 0
}

// acknowledgement is an event that its caller pulled and has, and when it said so.
func acknowledgement(event string) string {
	return event + "@" + strconv.FormatInt(time.Now().UnixMilli(), 10)
}

// acknowledge takes acknowledgements into the deliveries. They are noted beside them
// while somebody sends, and came in time for what the round gave up meanwhile.
func (r *record) acknowledge(list string) {
	r.Acked = list
	for one := range strings.FieldsSeq(list) {
		event, at, _ := strings.Cut(one, "@")
		i := slices.IndexFunc(r.Deliveries, func(d Delivery) bool { return d.Event == event })
		if i < 0 || r.Deliveries[i].Status == DeliveryDelivered {
			continue
		}
		if r.Deliveries[i].Status == DeliveryUndelivered {
			r.unfollow(i)
		}
		ms, _ := strconv.ParseInt(at, 10, 64)
		r.Deliveries[i].taken(ms)
	}
}

// unfollow takes back the follower of a delivery, which is behind it.
func (r *record) unfollow(i int) {
	d := &r.Deliveries[i]
	n := slices.IndexFunc(r.Deliveries, func(f Delivery) bool { return f.Webhook == d.Webhook && f.Type == typeExpired })
	if n > i {
		d.Follower = r.Deliveries[n].Event
		r.Deliveries = slices.Delete(r.Deliveries, n, n+1)
	}
}

// taken ends a delivery that was pulled.
func (d *Delivery) taken(at int64) {
	d.Status, d.Next = DeliveryDelivered, 0
	d.log(attempt{At: at, Why: acknowledged})
}

// DeliveryView is one webhook's share of a step-up as callers see it.
type DeliveryView struct {
	Webhook       string         `json:"webhook"`
	Status        DeliveryStatus `json:"status"`
	Attempts      int            `json:"attempts"`
	LastStatus    *int           `json:"last_status"` // HTTP status of the last attempt; null when nothing answered
	NextAttemptAt *Time          `json:"next_attempt_at"`
}

func (d *Delivery) view() DeliveryView {
	v := DeliveryView{Webhook: d.Webhook, Status: d.Status, Attempts: d.Attempts}
	if d.Last != 0 {
		v.LastStatus = &d.Last
	}
	if d.Status == DeliveryPending && d.Next != 0 && !d.Pull {
		v.NextAttemptAt = stamp(time.UnixMilli(d.Next))
	}
	return v
}

// attempt is what is kept of one attempt: never the content.
type attempt struct {
	At     int64  `json:"a"`           // ms
	Took   int64  `json:"m,omitempty"` // ms
	Status int    `json:"s,omitempty"` // HTTP status; 0: nothing answered
	Why    string `json:"w,omitempty"` // why it is not delivered: a word of package webhook; or acknowledged
	Keys   string `json:"k,omitempty"` // ids of the keys that signed; empty: those of the attempt before
}

// acknowledged is the word for an event that its caller pulled.
const acknowledged = "acknowledged"

// keepAttempts is how many attempts are kept of one delivery: a day's.
const keepAttempts = 50

// log notes an attempt. The keys are written where they change.
func (d *Delivery) log(a attempt) {
	if a.Keys == d.keys() {
		a.Keys = ""
	}
	d.Log = append(d.Log, a)
	if len(d.Log) > keepAttempts {
		oldest := d.Log[0].Keys
		if d.Log = d.Log[1:]; d.Log[0].Keys == "" {
			d.Log[0].Keys = oldest
		}
	}
}

// tookBefore reports whether the webhook has taken the event already.
func (d *Delivery) tookBefore() bool {
	return slices.ContainsFunc(d.Log, func(a attempt) bool { return a.Why == "" })
}

// keys are those of the last attempt.
func (d *Delivery) keys() string {
	for i := len(d.Log) - 1; i >= 0; i-- {
		if d.Log[i].Keys != "" {
			return d.Log[i].Keys
		}
	}
	return ""
}

// wants reports whether a webhook that subscribed to patterns gets events of
// the type. A pattern is a type, or a prefix that ends in an asterisk.
func wants(patterns []string, typ string) bool {
	for _, p := range patterns {
		if prefix, ok := strings.CutSuffix(p, "*"); p == typ || ok && strings.HasPrefix(typ, prefix) {
			return true
		}
	}
	return false
}

// event is the body of a webhook.
type event struct {
	Type      string `json:"type"`
	Timestamp Time   `json:"timestamp"`
	Data      StepUp `json:"data"`
}

func (e event) body() []byte {
	e.Data.Deliveries = nil
	b, err := json.Marshal(e)
	if err != nil {
		panic("worker: an event does not marshal: " + err.Error()) // plain data only
	}
	return b
}
