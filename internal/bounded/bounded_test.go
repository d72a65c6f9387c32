package bounded

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestText(t *testing.T) {
	full := strings.Repeat("a", MaxText)
	require.Equal(t, "", Text(""))
	require.Equal(t, full, Text(full), "a text of exactly the maximum length is not changed")
	require.Equal(t, full+"...[1 bytes cut]", Text(full+"b"))
	require.Equal(t, full[1:]+"...[2 bytes cut]", Text(full[1:]+"é"), "a character is never cut in two")
	require.Equal(t, strings.Repeat("\x80", MaxText-3)+"...[103 bytes cut]", Text(strings.Repeat("\x80", MaxText+100)),
		"bytes that are not UTF-8 are cut near the bound too")
}
