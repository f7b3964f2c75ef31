package redistest

import (
	"os/exec"
	"syscall"
)

// endWithUs ends the server with the test binary, however that ends.
func endWithUs(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
