package worker

import (
	"runtime/debug"
	"time"
)

// crew runs claims and sends on goroutines whose stacks have already grown: they need
// a deep stack for a moment, and the thousands of step-ups that only wait keep small
// ones. Go shrinks a stack that has grown only when less than a quarter is in use.
type crew struct {
	work chan func()
	over chan struct{} // closed when the worker has ended: nobody waits for more work
}

// crewLife is how long one serves. Idle ones take turns, so none would ever be idle for
// long: after a burst, the crew shrinks because those who leave are not replaced.
const crewLife = 5 * time.Second

func newCrew() crew { return crew{make(chan func()), make(chan struct{})} }

// do runs f soon, on an idle goroutine of the crew or on a new one.
func (c crew) do(f func()) {
	select {
	case c.work <- f:
	default:
		go c.serve(f)
	}
}

// run is do, awaited. What panics there panics here, where it is recovered.
func (c crew) run(f func()) {
	done := make(chan *panicked, 1)
	c.do(func() {
		defer func() {
			if p := recover(); p != nil {
				done <- &panicked{p, debug.Stack()}
			}
			close(done)
		}()
		f()
	})
	if p := <-done; p != nil {
		panic(p)
	}
}

// panicked is what panicked on the crew, and where.
type panicked struct {
	value any
	stack []byte
}

func (c crew) serve(f func()) {
	life := time.NewTimer(crewLife)
	defer life.Stop()
	for {
		f()
		select {
		case f = <-c.work:
		case <-life.C:
			return
		case <-c.over:
			return
		}
	}
}
