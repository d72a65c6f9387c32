package cut

import "golang.org/x/sys/unix"

// unsent is how many bytes the peer's system has not acknowledged, the FIN
// counted as one (tcp(7), SIOCOUTQ). A connection that the peer has reset has
// none: the kernel goes on to count what it threw away then.
func unsent(fd int) (n int, known bool) {
	if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil && info.State == unix.BPF_TCP_CLOSE {
		return 0, true
	}
	n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	return n, err == nil
}

// unread is how many bytes have come that nobody has read (tcp(7), SIOCINQ).
func unread(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
	if err != nil {
		return 0
	}
	return n
}
