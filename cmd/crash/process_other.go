//go:build !linux

package main

import (
	"os/exec"
	"time"
)

// endWithUs does nothing here: a child outlives this program if that is killed.
func endWithUs(*exec.Cmd) {}

// untilStopped gives a child that was sent SIGSTOP the time to stand still.
func untilStopped(int) { time.Sleep(100 * time.Millisecond) }
