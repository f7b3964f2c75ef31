package worker

import (
	"testing"
	"time"

	"stepup/ciba"
)

// Four times as many step-ups as one process polls at once. The
// others wait for their turn and are not forgotten; their wake-ups do not pile up;
// beyond the cap over all workers nothing is sent.
func TestMoreThanMaxInFlight(t *testing.T) {
	t.Parallel()
	const room, people = 50, 200
	small := func(o *Options, _ *Settings) {
		calm(o, nil)
		o.Shards, o.MaxInFlight, o.MaxInFlightTotal = 2, room, people
	}
	inBigBubble(t, small, func(t *testing.T, w *town) {
		o := outcome{name: "approve", answers: append(pendings(30), identified, consumed), state: Approved, expires: 10 * time.Minute}
		w.beginOver(people, 4*time.Second, o)
		time.Sleep(3 * time.Second) // counted each second
		over := w.begin(o, nil)
		_, err := w.Ask(t.Context(), over.request())
		if e := refusedAs(t, "one more", err, CodeOverloaded); e.RetryAfter <= 0 || over.person.pushes() != 0 {
			t.Errorf("%v, %d pushes", err, over.person.pushes())
		}
		w.lives = w.lives[:people]
		// Shards fill unevenly, so each has some room on top; see newQueue.
		mostHeld, mostWaiting, mostTasks := 0, 0, int64(0)
		for range 60 {
			time.Sleep(5 * time.Second)
			held, waiting := w.InFlight(), 0
			for _, x := range w.lives {
				if x.person.polled() == 0 {
					waiting++
				}
			}
			mostHeld, mostWaiting, mostTasks = max(mostHeld, held), max(mostWaiting, waiting), max(mostTasks, w.tasksIn("pending"))
		}
		t.Logf("at most %d held at once, %d waiting, %d tasks queued", mostHeld, mostWaiting, mostTasks)
		if mostHeld > 2*room || mostWaiting < people/4 {
			t.Errorf("%d held at once and %d waiting, with room for %d", mostHeld, mostWaiting, room)
		}
		if mostTasks > 8*int64(mostWaiting) {
			t.Errorf("%d tasks queued for %d step-ups that wait", mostTasks, mostWaiting)
		}
		for _, x := range w.lives {
			x.keeps()
		}
		if n := w.tasksIn("pending"); n != 0 {
			t.Errorf("%d tasks are left", n)
		}
		w.leavesNoWork()
		over.live() // there is room again
		w.settles([]*life{over})
		over.keeps()
	})
}

// A step-up that waits for its turn until it has expired has not been asked about,
// so nobody knows: it ends as unknown, in time, and its bank hears of it.
func TestWaitedTooLong(t *testing.T) {
	t.Parallel()
	tiny := func(o *Options, _ *Settings) {
		calm(o, nil)
		o.Shards, o.MaxInFlight = 1, 1 // and four on top
	}
	inBigBubble(t, tiny, func(t *testing.T, w *town) {
		long := outcome{name: "long", answers: []any{&ciba.Pending{}}, state: Expired, code: ExpiredCode, expires: 10 * time.Minute}
		short := outcome{name: "short", answers: []any{&ciba.Pending{}}, state: Unknown, code: ResultLost, expires: 30 * time.Second}
		w.beginOver(8, time.Second, long)
		held := w.InFlight()
		w.beginOver(3, time.Second, short)
		time.Sleep(100 * time.Second)
		for _, x := range w.lives[8:] {
			x.keeps()
			if n := x.person.polled(); n != 0 {
				t.Errorf("%d polls beyond what may be in flight (%d held)", n, held)
			}
		}
	})
}
