package main

import (
	"os/exec"
	"syscall"
)

// endWithUs lets the child die with this process, however this process ends.
func endWithUs(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
