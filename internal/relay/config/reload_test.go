package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// The documentation names exactly the options that need a restart.
func TestReloadRefusesWhatIsDocumented(t *testing.T) {
	page := string(testkit.Contents(t, "../../../docs/relay.md"))
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
	require.Contains(t, part, "if an address would be opened or closed")
}
