package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The documentation names exactly the options that need a restart.
func TestReloadRefusesWhatIsDocumented(t *testing.T) {
	page := string(contents(t, "../../../docs/relay.md"))
	_, part, ok := strings.Cut(page, "These need a restart:")
	require.True(t, ok)
	part, _, _ = strings.Cut(part, ".\n")
	var documented []string
	for i, key := range strings.Split(part, "`") {
		if i%2 == 1 && key != "http" {
			documented = append(documented, key)
		}
	}
	var keys []string
	for _, o := range options {
		if o.restart != "" {
			keys = append(keys, o.key)
		}
	}
	require.ElementsMatch(t, keys, documented)
	require.Contains(t, part, "the number")
}
