package child

import "syscall"

// attributes has the signal of prctl(2), PR_SET_PDEATHSIG.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}
