//go:build !unix

package main

import (
	"errors"
	"time"
)

func ownCPU() (time.Duration, error) { return 0, errors.New("this system has no getrusage") }
