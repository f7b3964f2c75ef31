//go:build race

package worker

// underRace: the race detector makes everything ten times dearer.
const underRace = true
