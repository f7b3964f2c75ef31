package worker

import (
	"crypto/rand"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

// Key layout. Everything that one script touches shares a hash tag, and with it
// a slot of Redis Cluster: a step-up's keys carry its shard's tag, which is also
// the asynq queue's name; leases, inboxes and what operators are told carry {w}, person
// limits {p<n>}, limits of callers {c:<caller>}.
//
// A step-up in flight is its record (codec.go), its prompt, its idempotency entry, a
// field of its person's limit, and its id in `open`, in its owner's set and, if its
// caller may list, in the caller's list: less than 1,350 bytes, and 650 of asynq's; with
// a reference it is in a second list, at most 200 more (weigh_test.go). A final one has
// its result and events instead of the prompt, and its id in `due` for as long as
// deliveries are.
const (
	prefix      = "stepup:"
	keyWorkers  = prefix + "{w}:workers"
	keyShards   = prefix + "{w}:shards"
	keyReady    = prefix + "{w}:ready"
	finalTopic  = prefix + "final" // publishes the ids of step-ups that became final or are sent again, and the topics of queues that grew
	deliverName = "deliver"        // the queue of later deliveries
)

func pollQueue(shard int) string          { return "poll-" + strconv.Itoa(shard) }
func slot(shard int) string               { return prefix + "{" + pollQueue(shard) + "}:" }
func keyOpen(shard int) string            { return slot(shard) + "open" } // all with work left, by wake-by time
func keyDue(shard int) string             { return slot(shard) + "due" }  // those of them that are final
func keyOwned(shard int, w string) string { return slot(shard) + "owned:" + w }
func keyOwners(shard int) string          { return slot(shard) + "owners" } // whoever may have an owned set
func keyWaited(shard int) string          { return slot(shard) + "waited" } // written so that WAIT waits
func keyInbox(w string) string            { return prefix + "{w}:inbox:" + w }

// keyTold is what the process with that lease told its operators last.
func keyTold(lease string) string { return prefix + "{w}:told:" + lease }

// keyMinute is what all processes counted in a minute: a field for each of them, with all
// that it counted, so that a write that is repeated counts nothing twice.
func keyMinute(n int64) string { return prefix + "{w}:minute:" + strconv.FormatInt(n, 10) }

func keyRecord(id string) string   { return keyOf(id, "su:") }
func keyPrompt(id string) string   { return keyOf(id, "q:") }      // sealed, while it is not final
func keyPersonal(id string) string { return keyOf(id, "sealed:") } // sealed fields, once it is
func keyEvents(id string) string   { return keyOf(id, "events:") }

func keyOf(id, kind string) string {
	n, _ := shardOf(id)
	return slot(n) + kind + id
}

// keyFailing is a caller's step-ups that a webhook did not take, by when they became final.
func keyFailing(shard int, caller string) string { return slot(shard) + "failing:" + caller }

// keyQueue is the events that wait for a caller to pull them from a webhook.
func keyQueue(shard int, caller, hook string) string { return slot(shard) + queueTopic(caller, hook) }

// keyLastPlace is the last place that was given in a queue, also when nothing is left in it.
func keyLastPlace(shard int, caller, hook string) string {
	return slot(shard) + "pulled:" + caller + "/" + hook
}

// queueTopic is what readers of a queue are told by, whatever the shard.
func queueTopic(caller, hook string) string { return "pull:" + caller + "/" + hook }

func keyIdem(shard int, hash string) string { return slot(shard) + "idem:" + hash }

// keyList is a caller's step-ups by age.
func keyList(shard int, caller string) string { return slot(shard) + "list:" + caller }

// keyReferences is those of a caller's step-ups whose references' keyed hashes fall into
// the same one of 256 parts. A key for each reference would weigh three times as much.
func keyReferences(shard int, caller, hash string) string {
	return fmt.Sprintf("%s:%02x", keyList(shard, caller), shardFor(256, hash))
}

func keyUsed(shard int, hash string) string { return slot(shard) + "used:" + hash }
func keyRate(caller string) string          { return prefix + "{c:" + caller + "}:rate" }
func keyPersons(caller string) string       { return prefix + "{c:" + caller + "}:persons" }

// keyPerson is the limit of one person at one provider: hash is keyed, so the
// key names nobody.
func keyPerson(shards int, provider, hash string) string {
	return fmt.Sprintf("%s{p%d}:%s:%s", prefix, shardFor(shards, hash), provider, hash)
}

// shardFor spreads a hash over the shards.
func shardFor(shards int, hash string) int {
	h := fnv.New32a()
	h.Write([]byte(hash))
	return int(h.Sum32() % uint32(shards))
}

// idText is how many characters of an id are random: 100 bits, by which a million ids
// a day do not meet in a million years. An id is no secret, and every key, index and task
// of a step-up holds it.
const idText = 20

// newID is a fresh step-up id. It names its shard, so whoever holds the id finds the keys.
func newID(shard int) string { return fmt.Sprintf("su_%02x%s", shard, rand.Text()[:idText]) }

// newEventID is a fresh event id. It names its step-up, so whoever holds it finds the keys.
func newEventID(id string) string {
	return eventPrefix + strings.TrimPrefix(id, "su_") + rand.Text()[:eventText]
}

const (
	eventPrefix = "evt_"
	eventText   = 8 // a step-up has a few dozen events at most
)

// stepUpOf is the step-up that an event id names; false when it is no id of ours.
func stepUpOf(event string) (id string, ok bool) {
	rest, ok := strings.CutPrefix(event, eventPrefix)
	if !ok || len(rest) != 2+idText+eventText || !isText(rest[2+idText:]) {
		return "", false
	}
	id = "su_" + rest[:2+idText]
	_, ok = shardOf(id)
	return id, ok
}

// isText reports whether s is of rand.Text's alphabet.
func isText(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return (c < 'A' || c > 'Z') && (c < '2' || c > '7') })
}

// shardOf is the shard an id names; false when it is no id of ours.
func shardOf(id string) (int, bool) {
	rest, ok := strings.CutPrefix(id, "su_")
	if !ok || len(rest) != 2+idText {
		return 0, false
	}
	n, err := strconv.ParseUint(rest[:2], 16, 8)
	if err != nil || strings.ToLower(rest[:2]) != rest[:2] {
		return 0, false
	}
	return int(n), isText(rest[2:])
}
