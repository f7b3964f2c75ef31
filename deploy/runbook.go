// Package deploy holds what is needed to run the service: files for it, and the documents that the program shows to its operators.
package deploy

import _ "embed"

// Runbook says of each alert what it means, what to look at and what to do; Markdown.
//
//go:embed RUNBOOK.md
var Runbook string
