package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// matrixPart runs the matrix, or what the settings leave of it.
func matrixPart(ctx context.Context, k *kit, s settings, progress io.Writer) (func(origin) string, bool, error) {
	list := cells()
	if s.quick {
		list = quick()
	}
	list = only(list, s.only)
	if len(list) == 0 {
		return nil, false, errors.New("no cell has such a name")
	}
	results := runMatrix(ctx, k, list, s.atOnce, progress)
	kept := len(results) == len(list) && !slices.ContainsFunc(results, func(v verdict) bool { return !v.ok() })
	return func(o origin) string { return matrixSection(results, o) }, kept, nil
}

// quick picks one cell of each row, in turns so that every fault and every outcome has its share.
func quick() (some []cell) {
	for i, r := range rows() {
		c := cell{r, outcomes[(i+i/len(faults))%len(outcomes)], faults[i%len(faults)]}
		if _, no := c.unreachable(); no {
			c.outcome = approve
		}
		some = append(some, c)
	}
	return some
}

// only keeps the cells whose name the pattern matches.
func only(list []cell, pattern *regexp.Regexp) (some []cell) {
	for _, c := range list {
		if _, no := c.unreachable(); !no && pattern.MatchString(c.String()) {
			some = append(some, c)
		}
	}
	return some
}

// runMatrix runs cells side by side and prints a line for each that is over.
func runMatrix(ctx context.Context, k *kit, list []cell, atOnce int, progress io.Writer) (results []verdict) {
	sideBySide(ctx, list, atOnce, func(c cell) verdict {
		v := c.run(ctx, k)
		if v.ok() && os.RemoveAll(v.dir) == nil {
			v.dir = ""
		}
		return v
	}, func(v verdict) {
		results = append(results, v)
		fmt.Fprintf(progress, "%4d/%d  %s\n", len(results), len(list), v)
	})
	return results
}

// sideBySide calls do for each of a list, some at a time, and over with what it returned, one after the other.
func sideBySide[T, R any](ctx context.Context, list []T, atOnce int, do func(T) R, over func(R)) {
	var mu sync.Mutex
	var workers sync.WaitGroup
	todo := make(chan T)
	for range atOnce {
		workers.Go(func() {
			for one := range todo {
				r := do(one)
				mu.Lock()
				over(r)
				mu.Unlock()
			}
		})
	}
	for _, one := range list {
		select {
		case todo <- one:
		case <-ctx.Done():
		}
	}
	close(todo)
	workers.Wait()
}

// String is the line of progress.
func (v verdict) String() string {
	text := fmt.Sprintf("%-45s %5.1f s  %s", v.cell, v.took.Round(100*time.Millisecond).Seconds(), strings.TrimSpace(v.ended.status+" "+v.ended.reason))
	if !v.reached && v.err == nil {
		text += "  NOT REACHED"
	}
	if v.err != nil {
		text += "  FAILED: " + v.err.Error()
	}
	for _, b := range v.violations {
		text += "\n           VIOLATION of " + b.String()
	}
	if v.dir != "" {
		text += "\n           logs: " + v.dir
	}
	return text
}
