package worker

import "time"

// crew runs sends on goroutines whose stacks have already grown: a send needs a
// deep stack for a moment, and the thousands of step-ups that only wait keep
// small ones.
type crew struct {
	work chan func()
	over chan struct{} // closed when the worker has ended: nobody waits for more work
}

const crewIdle = 10 * time.Second

func newCrew() crew { return crew{make(chan func()), make(chan struct{})} }

// do runs f soon, on an idle goroutine of the crew or on a new one.
func (c crew) do(f func()) {
	select {
	case c.work <- f:
	default:
		go c.serve(f)
	}
}

func (c crew) serve(f func()) {
	idle := time.NewTimer(crewIdle)
	defer idle.Stop()
	for {
		f()
		idle.Reset(crewIdle)
		select {
		case f = <-c.work:
		case <-idle.C:
			return
		case <-c.over:
			return
		}
	}
}
