package main

import (
	"os/exec"
	"syscall"
)

// endWithUs ends the child with this program, however that ends.
func endWithUs(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
