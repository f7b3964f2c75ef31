package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// snapshot is what has been used up to a moment, by the three that take part.
type snapshot struct {
	at                  time.Time
	self, target, redis time.Duration // CPU, user + system
	service             time.Duration // the same of the service, where it has a process of its own
	sent                int64         // commands that the service has sent to Redis
	run                 int64         // commands that Redis has run, those inside of scripts too, our INFO left out
	memory              int64         // Redis's used_memory, bytes
	rss                 int64         // of this process, bytes; 0: this system does not tell
	stacks, heap        int64         // Go's share of rss, bytes
	goroutines          int
	allocated, objects  uint64        // bytes and number
	connections         int64         // that the target has accepted
	machine             time.Duration // CPU that the whole machine has used; 0: this system does not tell
}

func (b *bench) snapshot(ctx context.Context) (s snapshot, err error) {
	s.at = time.Now()
	if s.self, err = ownCPU(); err != nil {
		return s, fmt.Errorf("reading our CPU time: %w", err)
	}
	target, err := b.target.used(ctx)
	if err != nil {
		return s, fmt.Errorf("reading the simulated provider's CPU time: %w", err)
	}
	s.target, s.connections = target.CPU, target.Connections
	s.readRuntime()
	s.rss, s.machine, s.sent = residentSet("self"), machineCPU(), b.store.sent.Load()
	if b.program != nil {
		s.service = b.program.cpu()
	}
	info, err := b.store.admin.Info(ctx, "all").Result()
	if err != nil {
		return s, fmt.Errorf("reading Redis's INFO: %w", err)
	}
	return s, s.readInfo(info)
}

// readRuntime takes what the Go runtime tells of itself.
func (s *snapshot) readRuntime() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.allocated, s.objects = m.TotalAlloc, m.Mallocs
	s.stacks, s.heap, s.goroutines = int64(m.StackInuse), int64(m.HeapInuse), runtime.NumGoroutine()
}

// readInfo takes what it needs from INFO all.
func (s *snapshot) readInfo(info string) error {
	found := 0
	for line := range strings.Lines(info) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch {
		case key == "used_cpu_user" || key == "used_cpu_sys":
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return fmt.Errorf("reading Redis's INFO: %s is not a number", key)
			}
			s.redis += time.Duration(seconds * float64(time.Second))
			found++
		case key == "used_memory":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return fmt.Errorf("reading Redis's INFO: %s is not a number", key)
			}
			s.memory = n
			found++
		case strings.HasPrefix(key, "cmdstat_") && key != "cmdstat_info":
			calls, _, _ := strings.Cut(strings.TrimPrefix(value, "calls="), ",")
			n, err := strconv.ParseInt(calls, 10, 64)
			if err != nil {
				return fmt.Errorf("reading Redis's INFO: %s has no calls", key)
			}
			s.run += n
		}
	}
	if found != 3 {
		return fmt.Errorf("reading Redis's INFO: CPU or memory is missing")
	}
	return nil
}

// spent is what was used between two moments.
type spent struct {
	seconds             float64
	self, target, redis time.Duration
	service             time.Duration
	sent, run           float64 // Redis commands
	allocated, objects  float64
	connections         float64
	others              float64 // share of the machine that was busy with other programs; below 0: not known
}

func (s snapshot) since(earlier snapshot) spent {
	u := spent{
		seconds: s.at.Sub(earlier.at).Seconds(),
		self:    s.self - earlier.self, target: s.target - earlier.target, redis: s.redis - earlier.redis, service: s.service - earlier.service,
		allocated: float64(s.allocated - earlier.allocated), objects: float64(s.objects - earlier.objects),
		connections: float64(s.connections - earlier.connections),
		sent:        float64(s.sent - earlier.sent), run: float64(s.run - earlier.run), others: -1,
	}
	if s.machine > 0 {
		busy := s.machine - earlier.machine - u.self - u.target - u.redis - u.service
		u.others = max(0, busy.Seconds()/(u.seconds*float64(runtime.NumCPU())))
	}
	return u
}

// beyond takes off what the same time costs when there is nothing to do. What falls below zero is noise.
func (u spent) beyond(idle spent) spent {
	if idle.seconds == 0 {
		return u
	}
	share := u.seconds / idle.seconds
	less := func(all, rest time.Duration) time.Duration { return max(0, all-time.Duration(share*float64(rest))) }
	return spent{
		seconds: u.seconds, others: u.others,
		self: less(u.self, idle.self), target: less(u.target, idle.target), redis: less(u.redis, idle.redis), service: less(u.service, idle.service),
		allocated: max(0, u.allocated-share*idle.allocated), objects: max(0, u.objects-share*idle.objects),
		connections: u.connections,
		sent:        max(0, u.sent-share*idle.sent), run: max(0, u.run-share*idle.run),
	}
}

// percentile of values that are sorted, by nearest rank; 0 when there are none.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

func sorted(values []time.Duration) []time.Duration {
	values = slices.Clone(values)
	slices.Sort(values)
	return values
}

// residentSet is the second number of Linux's statm of a process, in bytes; 0 elsewhere.
func residentSet(process string) int64 {
	raw, err := os.ReadFile("/proc/" + process + "/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(raw))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// machineCPU is the first line of Linux's /proc/stat but for its idle columns; 0 elsewhere.
func machineCPU() time.Duration {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(raw), "\n")
	busy := int64(0)
	for i, field := range strings.Fields(first) {
		// cpu user nice system idle iowait irq softirq steal; what follows is part of user.
		if i == 0 || i == 4 || i == 5 || i > 8 {
			continue
		}
		n, _ := strconv.ParseInt(field, 10, 64)
		busy += n
	}
	return ticks(busy)
}

// processCPU is what a process has used, user + system, from Linux's stat; 0 elsewhere.
func processCPU(process string) time.Duration {
	raw, err := os.ReadFile("/proc/" + process + "/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(raw), ") ") // the name may hold spaces
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return ticks(user + system)
}

// ticks are a hundredth of a second: USER_HZ is 100 wherever Go runs on Linux.
func ticks(n int64) time.Duration { return time.Duration(n) * 10 * time.Millisecond }

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("the run was ended: %w", context.Cause(ctx))
	case <-timer.C:
		return nil
	}
}

// until waits for a condition of the real world.
func until(ctx context.Context, what string, within time.Duration, ok func() (bool, error)) error {
	end := time.Now().Add(within)
	for {
		if done, err := ok(); err != nil || done {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within %v", what, within)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}
