package cut

import "golang.org/x/sys/unix"

// unsent returns how many bytes the peer's system has not acknowledged; the FIN
// counts as one byte (tcp(7), SIOCOUTQ). For a connection that the peer has reset
// it returns 0, because the kernel still counts the bytes that it has discarded.
func unsent(fd int) (n int, known bool) {
	if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil && info.State == unix.BPF_TCP_CLOSE {
		return 0, true
	}
	n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	return n, err == nil
}

// unread returns how many received bytes have not been read (tcp(7), SIOCINQ).
func unread(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
	if err != nil {
		return 0
	}
	return n
}
