package protocol

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each row is complete, and docs/relay.md has the same facts.
func TestTable(t *testing.T) {
	page, err := os.ReadFile("../../../docs/relay.md")
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(page), "| mode | STARTTLS | a backend for each user | clients without a login |\n|---|---|---|---|\n")
	require.True(t, ok)
	table, _, _ = strings.Cut(table, "\n\n")
	var want []string
	for _, p := range Table {
		_, login := p.Front(FrontConfig{}).(LoginFront)
		require.Equal(t, p.Login, login, "%s: Login, and whether the front is a LoginFront", p.Name)
		require.NotNil(t, p.Dialog(DialogConfig{}), p.Name)
		require.Equal(t, p.Name, Find(p.Name).Name)
		users, without := "no", "no"
		if p.Login {
			users = "yes"
		}
		if p.Unauthenticated {
			without = "`allow-unauthenticated`"
		}
		want = append(want, "| `"+p.Name+"` | yes | "+users+" | "+without+" |")
	}
	require.Equal(t, strings.Join(want, "\n"), table)
	require.Nil(t, Find("tcp"))
}
