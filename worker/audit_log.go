package worker

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// How many lines wait in memory while the file takes none. What is refused meanwhile gets
// half of it, so that a flood of refusals costs no line of those who were asked.
const (
	auditLines = 100_000
	auditBytes = 32 << 20
)

const (
	auditSync     = time.Second     // between two fsyncs, and two tries while the file takes no lines
	auditPatience = 2 * time.Second // a create waits this long for its line
)

var errAuditSlow = errors.New("the disk does not answer")

// Audit is the audit log: one line of JSON for every decision, in the order in which this
// process made them. One goroutine writes. A create waits until its line is in the file,
// and is refused where that fails or takes long; nobody else waits for the disk, and
// nobody for an fsync. What cannot be written waits in memory; until it is written, no
// new step-up is taken. The zero Audit keeps nothing.
type Audit struct {
	log *slog.Logger

	kick     chan struct{} // there are lines, or there is another file
	over     chan struct{} // closed by Close
	routines sync.WaitGroup

	mu     sync.Mutex
	file   *auditFile   // nil: nothing is kept
	former []*auditFile // to be closed by the writer, who may be writing to one
	queue  []auditLine
	lines  int // that wait, those in the writer's hands included
	bytes  int
	lost   int // lines there was no room for, not told in the file yet
	closed bool

	writeFault error // why lines wait; nil while they are written
	syncFault  error // why what is written may not reach the disk
}

// auditLine is a line on its way into the file.
type auditLine struct {
	text []byte
	told chan error // nil: nobody waits for it, so it is kept until it is written
}

// OpenAudit opens the file for more lines, or creates it for nobody else to read. With an
// empty path nothing is kept until Reopen names one. Close ends it.
func OpenAudit(path string, log *slog.Logger) (*Audit, error) {
	a := &Audit{log: log, kick: make(chan struct{}, 1), over: make(chan struct{})}
	if path != "" {
		var err error
		if a.file, err = openAuditFile(path, true); err != nil {
			return nil, err
		}
	}
	a.routines.Go(a.writeLines)
	a.routines.Go(a.syncFile)
	return a, nil
}

// Reopen takes the file of that path into use, which may be a new one in the place of one
// that was moved away; an empty path ends the log. After an error the old file stays in
// use. Lines that wait go to the new file.
func (a *Audit) Reopen(path string) error {
	var file *auditFile
	if path != "" {
		var err error
		if file, err = openAuditFile(path, true); err != nil {
			return err
		}
	}
	a.mu.Lock()
	if a.file != nil {
		a.former = append(a.former, a.file)
	}
	a.file = file
	a.change(&a.syncFault, nil) // of the former one
	a.mu.Unlock()
	a.wake()
	return nil
}

// Close writes what waits, brings it to the disk and closes the file.
func (a *Audit) Close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	close(a.over)
	a.routines.Wait()
}

// note keeps the line of a decision that stands, whatever the file says.
func (a *Audit) note(d decision) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file == nil {
		return
	}
	share := 1
	if d.What == whatRefuse {
		share = 2
	}
	if a.push(auditLine{text: d.line()}, share) {
		return
	}
	why := "there is no room for more"
	if a.closed {
		why = "the process ends"
	}
	if a.lost++; a.lost == 1 {
		a.alarm("audit lines are lost: "+why, a.writeFault)
	}
}

// write returns nil when the file has the line. Otherwise the decision must not be
// carried out: the line may still come into the file, and a refusal after it.
func (a *Audit) write(d decision) error {
	a.mu.Lock()
	if a.file == nil {
		a.mu.Unlock()
		return nil
	}
	told := make(chan error, 1)
	err := cmp.Or(a.writeFault, a.syncFault)
	if err == nil && !a.push(auditLine{d.line(), told}, 1) {
		err = errAuditSlow
	}
	a.mu.Unlock()
	if err != nil {
		return err
	}
	late := time.NewTimer(auditPatience)
	defer late.Stop()
	select {
	case err := <-told:
		return err
	case <-late.C:
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.change(&a.writeFault, cmp.Or(a.writeFault, errAuditSlow))
	return errAuditSlow
}

// fault is why no new step-up may be taken, nil while the log can be written.
func (a *Audit) fault() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return cmp.Or(a.writeFault, a.syncFault)
}

// push adds a line to those that wait; false where its share of the room is used up, or
// nobody writes any more. a.mu is held.
func (a *Audit) push(l auditLine, share int) bool {
	if a.closed || (a.lines+1)*share > auditLines || (a.bytes+len(l.text))*share > auditBytes {
		return false
	}
	a.queue = append(a.queue, l)
	a.lines, a.bytes = a.lines+1, a.bytes+len(l.text)
	if a.writeFault == nil { // else it is tried again in a moment
		a.wake()
	}
	return true
}

func (a *Audit) wake() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// change notes a new fault or its end, and says once that the log cannot be written and
// once that it can again. a.mu is held.
func (a *Audit) change(to *error, fault error) {
	before := cmp.Or(a.writeFault, a.syncFault)
	*to = fault
	switch now := cmp.Or(a.writeFault, a.syncFault); {
	case before == nil && now != nil:
		a.alarm("the audit log cannot be written; no new step-up is taken until it can", now)
	case before != nil && now == nil:
		a.log.Info("the audit log is written again")
	}
}

func (a *Audit) alarm(what string, err error) {
	a.log.Error(what, "alarm", true, "error", err)
}

// writeLines is the only one that writes.
func (a *Audit) writeLines() {
	again := time.NewTicker(auditSync)
	defer again.Stop()
	for on := true; on; {
		select {
		case <-a.kick:
		case <-again.C:
		case <-a.over:
			on = false
		}
		for a.writeSome() {
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.retire(a.file)
	if lost := a.lines + a.lost; lost > 0 && a.file != nil {
		a.alarm("audit lines are lost: the file does not take them and the process ends", fmt.Errorf("%d lines", lost))
	}
}

// writeSome writes what waits into the file that is in use now; false when nothing more
// waits, or the file takes no more.
func (a *Audit) writeSome() bool {
	f, some, resumes, lost := a.next()
	for i, l := range some {
		if err := f.add(l.text); err != nil {
			a.keep(some[i:], err)
			return false
		}
		a.done(l, nil)
	}
	if resumes {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.lost -= lost
		a.change(&a.writeFault, nil)
	}
	return len(some) > 0
}

// next takes the lines that wait, and the file for them. After a fault, when nothing
// waits any more, that is a line that says so: a fault is over when it is written.
func (a *Audit) next() (f *auditFile, some []auditLine, resumes bool, lost int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, old := range a.former {
		a.routines.Go(func() { a.retire(old) }) // nobody waits for its fsync
	}
	a.former = nil
	if a.file == nil && len(a.queue) > 0 {
		a.log.Warn("audit lines are dropped: there is no audit file any more", "lines", len(a.queue))
	}
	if len(a.queue) == 0 && (a.writeFault != nil || a.lost > 0) {
		text := decision{Time: Time{time.Now()}, What: whatResumed, Lost: a.lost}.line()
		a.queue = append(a.queue, auditLine{text, make(chan error, 1)}) // not kept when it is not written
		a.lines, a.bytes = a.lines+1, a.bytes+len(text)
		resumes = true
	}
	some = a.queue
	a.queue = nil
	return a.file, some, resumes, a.lost
}

// done takes a line off those that wait.
func (a *Audit) done(l auditLine, err error) {
	if l.told != nil {
		l.told <- err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lines, a.bytes = a.lines-1, a.bytes-len(l.text)
}

// keep puts lines back that were not written, and lets go of those somebody waits for:
// what they stand for is refused.
func (a *Audit) keep(some []auditLine, err error) {
	err = pathless(err)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.change(&a.writeFault, err)
	all := append(some, a.queue...)
	a.queue = nil
	for _, l := range all {
		if l.told == nil {
			a.queue = append(a.queue, l)
			continue
		}
		a.lines, a.bytes = a.lines-1, a.bytes-len(l.text)
		l.told <- err
	}
}

// syncFile brings to the disk, each second, what was written since.
func (a *Audit) syncFile() {
	again := time.NewTicker(auditSync)
	defer again.Stop()
	for {
		select {
		case <-a.over:
			return
		case <-again.C:
		}
		a.mu.Lock()
		f := a.file
		a.mu.Unlock()
		if f == nil {
			continue
		}
		err := f.flushed()
		a.mu.Lock()
		if a.file == f {
			a.change(&a.syncFault, err)
		}
		a.mu.Unlock()
	}
}

// retire ends a file that gets no more lines.
func (a *Audit) retire(f *auditFile) {
	if f == nil {
		return
	}
	if err := errors.Join(f.flushed(), f.Close()); err != nil {
		a.alarm("the last lines of an audit file may not have reached the disk", err)
	}
}
