package main

import (
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"stepup/deploy"
)

// Whoever is woken types what the runbook says, and the program understands it.
func TestRunbookCommands(t *testing.T) {
	t.Parallel()
	var known []string
	for _, node := range pages(t) {
		known = append(known, strings.Fields(node.Path())[0])
	}
	told := 0
	for _, quoted := range regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(deploy.Runbook, -1) {
		_, line, ok := strings.Cut(" "+quoted[1], " stepup ")
		args := strings.Fields(line)
		if !ok || len(args) == 0 || !slices.Contains(known, args[0]) {
			continue
		}
		told++
		if _, err := newParser(&commands{}, io.Discard, io.Discard).Parse(args); err != nil {
			t.Errorf("stepup %s: %v", strings.Join(args, " "), err)
		}
	}
	if told < 7 {
		t.Errorf("%d commands: the runbook is not read as it should be", told)
	}
}
