package protocol

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Invariant: whatever the backend sends, and however its data is split into segments,
// no announcement of TLS outside a literal reaches the client before the login. Data
// without such an announcement is not changed.
func FuzzGuard(f *testing.F) {
	for i, s := range []string{"* OK [CAPABILITY A STARTTLS] x\r\n* CAPABILITY LOGINDISABLED\r\na OK {3}\r\nxyz\r\n", "+OK\r\nSTLS\r\n.\r\n", "250-x\r\n250-STARTTLS\r\n250 STARTTLS\r\n220\r\n"} {
		f.Add(uint8(i), []byte(s))
	}
	f.Fuzz(func(t *testing.T, which uint8, said []byte) {
		if len(said) > MaxResponse {
			return
		}
		mode := []string{modeIMAP, modePOP3, modeSMTP}[which%3]
		var outs []string
		for _, size := range []int{1, 7, len(said) + 1} {
			g := Find(mode).Guard(GuardConfig{TLS: true, MaxLine: 400})
			g.Feed([]byte(map[string]string{modeIMAP: "a NOOP\r\n", modePOP3: "CAPA\r\n", modeSMTP: "EHLO me\r\n"}[mode]))
			require.NotEmpty(t, g.Next().ToBackend)
			var out []byte
			for rest := said; len(rest) > 0; {
				n := min(size, len(rest))
				more, err := g.Responses(rest[:n])
				require.NoError(t, err)
				out, rest = append(out, more...), rest[n:]
			}
			_, held := g.Rest()
			outs = append(outs, string(append(out, held...)))
		}
		require.Equal(t, outs[0], outs[1])
		require.Equal(t, outs[0], outs[2])
		upper := strings.ToUpper(string(said))
		if !strings.Contains(upper, "CAPABILITY") && !strings.Contains(upper, "STLS") && !strings.Contains(upper, "STARTTLS") {
			require.Equal(t, string(said), outs[0])
		}
	})
}
