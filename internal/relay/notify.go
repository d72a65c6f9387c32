package relay

import (
	"net"
	"os"
)

// Notify sends a state such as "READY=1" to systemd, as sd_notify(3) does. Without
// systemd it does nothing.
func Notify(state string) error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"}) // as for systemd, a name that begins with '@' is an abstract socket
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(state))
	return err
}
