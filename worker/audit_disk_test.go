package worker

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"stepup/ciba"
)

// largeAudit is the path of an audit log that is larger than any other file that a test
// writes: see fullAt.
func largeAudit(t *testing.T) string {
	t.Helper()
	path := auditPath(t)
	err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 8<<20)) // a hole, no blocks
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// fullAt lets no file of this process grow beyond size bytes, as a full disk does: what
// fits is written, and then no more. Not for parallel tests.
func fullAt(t *testing.T, size int64) (free func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	set := func(l syscall.Rlimit) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
			t.Fatal(err)
		}
	}
	set(syscall.Rlimit{Cur: uint64(size), Max: before.Max})
	free = sync.OnceFunc(func() { set(before) })
	t.Cleanup(free)
	return free
}

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// A full disk stops new step-ups and not running ones, and nothing of these is lost.
func TestFullDiskStopsNewStepUps(t *testing.T) {
	path := largeAudit(t)
	auditBubble(t, path, nil, func(t *testing.T, r *rig, log *logBook) {
		r.provider.provide(nil, &ciba.Pending{}, &ciba.Pending{}, someone())
		running := r.asked("running", "S1234567D")
		time.Sleep(time.Second)
		free := fullAt(t, sizeOf(t, path)+40) // a part of any line fits, and no whole one

		// The first one finds out: its intent is taken back.
		_, err := r.ask("first", "S7654321D")
		e := refusedAs(t, "the first create", err, CodeStorageUnavailable)
		if !strings.Contains(e.Detail, "audit log") || e.RetryAfter < time.Second || e.ID != "" {
			t.Errorf("refused with %+v", e)
		}
		for i := range 20 {
			_, err := r.ask(fmt.Sprint("more", i), fmt.Sprintf("S%07dD", i))
			refusedAs(t, "a create", err, CodeStorageUnavailable)
			time.Sleep(time.Second)
		}
		if n := r.provider.pushes(); n != 1 {
			t.Errorf("%d pushes, want 1", n)
		}
		if err := r.Ready(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "audit: ") {
			t.Errorf("ready with %v", err)
		}
		if v, err := r.Show(t.Context(), "bank", running.ID); err != nil || v.Status != Approved || v.Deliveries[0].Status != DeliveryDelivered {
			t.Errorf("the running step-up: %s %v", asJSON(t, v), err)
		}
		wantAudit(t, "while the disk is full", readAudit(t, path), "ask", "sent")
		if page, err := r.List(t.Context(), "bank", Filter{Limit: 10}); err != nil || len(page.StepUps) != 1 {
			t.Errorf("an intent is left behind: %s %v", asJSON(t, page), err)
		}
		if n := log.alarms("audit"); n != 1 {
			t.Errorf("%d alarms, want 1:\n%s", n, log)
		}

		free()
		time.Sleep(2 * time.Second)
		if err := r.Ready(t.Context()); err != nil {
			t.Errorf("when the disk is free again: %v", err)
		}
		if log.alarms("audit") != 1 || !strings.Contains(log.String(), "the audit log is written again") {
			t.Errorf("it was not said that it is over:\n%s", log)
		}
		var finals []string
		refusals := 0
		for _, d := range readAudit(t, path) {
			if d.What == whatRefuse && d.Outcome == CodeStorageUnavailable {
				refusals++
			} else {
				finals = append(finals, short(d))
			}
		}
		if want := "ask, sent, final approved, deliver ledger step_up.approved delivered, resumed"; strings.Join(finals, ", ") != want || refusals != 21 {
			t.Errorf("%d refusals and %q, want 21 and %q", refusals, finals, want)
		}
		// Nobody is kept busy by a create that was refused, and the key is free.
		r.asked("again", "S0000003D")
		r.asked("first", "S7654321D")
	})
}

// A line that fits in part is not left in the file; where another process has written
// behind it, the next one begins on a line of its own.
func TestPartOfALineSpoilsNoOther(t *testing.T) {
	for _, c := range []struct {
		name   string
		behind string // written by another process before the part can be cut off
		want   string
	}{
		{"alone", "", "first\nthird\n"},
		{"shared", "other\n", "first\nsecoother\n\nthird\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := largeAudit(t)
			f, err := openAuditFile(path, true)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := f.add([]byte("first\n")); err != nil {
				t.Fatal(err)
			}
			if c.behind == "" {
				free := fullAt(t, sizeOf(t, path)+4)
				if err := f.add([]byte("second\n")); !errors.Is(err, syscall.EFBIG) {
					t.Errorf("on a full disk: %v", err)
				}
				free()
			} else {
				n, _ := f.Write([]byte("seco"))
				other, err := openAuditFile(path, false)
				if err != nil {
					t.Fatal(err)
				}
				defer other.Close()
				other.torn = false // it looked before
				if err := other.add([]byte(c.behind)); err != nil {
					t.Fatal(err)
				}
				f.torn = !f.takeBack(n)
			}
			if err := f.add([]byte("third\n")); err != nil {
				t.Fatal(err)
			}
			if got := readLarge(t, path); got != c.want {
				t.Errorf("the file holds %q, want %q", got, c.want)
			}
		})
	}
	// A crash of the machine in the middle of a line.
	path := auditPath(t)
	if err := os.WriteFile(path, []byte("first\nseco"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openAuditFile(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, line := range []string{"third\n", "fourth\n"} {
		if err := f.add([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := os.ReadFile(path); string(got) != "first\nseco\nthird\nfourth\n" {
		t.Errorf("after a crash the file holds %q", got)
	}
}

func decided(what string, n int) decision {
	return decision{Time: Time{time.Now()}, What: what, Outcome: fmt.Sprint(n)}
}

// What waits in memory is bounded: refusals give way first, and how many lines are
// missing is told in their place.
func TestLinesThatWaitAreBounded(t *testing.T) {
	t.Parallel()
	log, path := &logBook{}, auditPath(t)
	a := openAudit(t, "/dev/full", log)
	if err := a.write(decided(whatAsk, 0)); err == nil {
		t.Fatal("a full disk took a line")
	}
	const refusals = auditLines/2 + 7
	for i := range refusals {
		a.note(decided(whatRefuse, i))
	}
	for i := range auditLines/2 + 3 {
		a.note(decided(whatFinal, i))
	}
	if err := a.write(decided(whatAsk, 0)); err == nil || a.fault() == nil {
		t.Error("a create is let in while lines wait")
	}
	if log.alarms("are lost") != 1 || log.alarms("cannot be written") != 1 {
		t.Errorf("alarms:\n%s", log)
	}
	if err := a.Reopen(path); err != nil {
		t.Fatal(err)
	}
	a.Close()
	got := readAudit(t, path)
	if len(got) != auditLines+1 {
		t.Fatalf("%d lines, want %d", len(got), auditLines+1)
	}
	for i, d := range got[:auditLines] {
		if want := i % (auditLines / 2); d.Outcome != fmt.Sprint(want) || (d.What == whatRefuse) != (i < auditLines/2) {
			t.Fatalf("line %d is %+v", i, d)
		}
	}
	if last := got[auditLines]; last.What != whatResumed || last.Lost != 10 {
		t.Errorf("last line %+v, want one that tells 10 lost", last)
	}
}

// Who outlives the log is told so: nobody is asked any more, and a line that comes too late is an alarm.
func TestAfterTheLogIsClosed(t *testing.T) {
	t.Parallel()
	log, path := &logBook{}, auditPath(t)
	a := openAudit(t, path, log)
	a.note(decided(whatFinal, 1))
	a.Close()
	if err := a.write(decided(whatAsk, 2)); err == nil {
		t.Error("a create is let in")
	}
	for i := range 3 {
		a.note(decided(whatFinal, 3+i))
	}
	wantAudit(t, "closed", readAudit(t, path), "final 1")
	if log.alarms("") != 1 || log.alarms("lines are lost: the process ends") != 1 {
		t.Errorf("alarms:\n%s", log)
	}
}

// A disk that hangs keeps nobody waiting for long, and those who poll not at all.
func TestDiskThatHangs(t *testing.T) {
	t.Parallel()
	log := &logBook{}
	a := openAudit(t, auditPath(t), log)
	out, in, err := os.Pipe() // it hangs when it is full
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := in.Write(make([]byte, 1<<16)); err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	a.file = &auditFile{File: in}
	a.mu.Unlock()
	a.note(decided(whatFinal, 1))
	began := time.Now()
	for range 3 { // the first one waits, the others are refused at once
		if err := a.write(decided(whatAsk, 2)); !errors.Is(err, errAuditSlow) {
			t.Errorf("a create while the disk hangs: %v", err)
		}
	}
	a.note(decided(whatFinal, 3))
	if took := time.Since(began); took < auditPatience || took > 2*auditPatience {
		t.Errorf("three creates and a final state took %v", took)
	}
	go func() { // it goes on
		for buf := make([]byte, 1<<16); ; {
			if _, err := out.Read(buf); err != nil {
				return
			}
		}
	}()
	r := &rig{t: t}
	r.until("the log is written again", func() bool { return a.fault() == nil })
	if err := a.write(decided(whatAsk, 4)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	a.Close()
	if log.alarms("cannot be written") != 1 || log.alarms("lost") != 0 {
		t.Errorf("alarms:\n%s", log)
	}
}

// A disk that does not keep what was written counts as one that takes nothing.
func TestFailingFsync(t *testing.T) {
	path := auditPath(t)
	auditBubble(t, path, nil, func(t *testing.T, r *rig, log *logBook) {
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0) // takes all and cannot be synced
		if err != nil {
			t.Fatal(err)
		}
		a := r.opts.Audit
		a.mu.Lock()
		a.file = &auditFile{File: null, regular: true}
		a.mu.Unlock()
		r.asked("k", "S1234567D")
		time.Sleep(2 * time.Second)
		_, err = r.ask("k2", "S7654321D")
		refusedAs(t, "create", err, CodeStorageUnavailable)
		if err := a.Reopen(path); err != nil {
			t.Fatal(err)
		}
		r.asked("k2", "S7654321D")
		time.Sleep(5 * time.Second)
		if err := r.Ready(t.Context()); err != nil || log.alarms("cannot be written") != 1 {
			t.Errorf("ready with %v, alarms:\n%s", err, log)
		}
	})
}
