package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/alicebob/miniredis/v2"
)

const embedded = "embedded" // redis.url of a Redis inside this process

// startEmbedded runs a Redis inside this process, on a loopback port of the system's choice.
func startEmbedded(log *slog.Logger) (url string, stop func(), err error) {
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr("127.0.0.1:0"); err != nil {
		return "", nil, fmt.Errorf("starting the embedded Redis: %w", err)
	}
	log.Warn("EMBEDDED REDIS: everything is in memory, nothing survives the end of this process", "addr", m.Addr())
	done := make(chan struct{})
	go passTime(m, done)
	return "redis://" + m.Addr() + "/0", func() { close(done); m.Close() }, nil
}

// passTime lets keys expire: miniredis has a clock of its own that only moves when it is told to.
func passTime(m *miniredis.Miniredis, done <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-done:
			return
		case now := <-tick.C:
			m.FastForward(now.Sub(last))
			last = now
		}
	}
}
