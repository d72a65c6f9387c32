package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// timedRow returns a row with one cell.
func timedRow(key, group, title string, us float64) *Result {
	return &Result{Key: key, Group: group, Title: title, Unit: "µs", Base: engineName, When: "2026-12-01 10:00", Rounds: 11, Load: 1,
		Cells: []*Cell{{Name: engineName, Stat: Stat{us, us, us}, Ratio: Stat{1, 1, 1}}}}
}

// A run of some rows leaves all other rows of the series in the file and in the document,
// even if the run was made on another machine. Each part of the document names the machine
// that it is from.
func TestPartialRunKeepsOtherRows(t *testing.T) {
	dir := t.TempDir()
	page := filepath.Join(dir, "page.md")
	text := ""
	for _, part := range []string{"conditions", "handshake", "message"} {
		text += "<!-- bench:begin " + part + " -->\n<!-- bench:end -->\n"
	}
	require.NoError(t, os.WriteFile(page, []byte(text), 0o600))
	f := &flags{out: dir, doc: page}
	old, newer := Run{"OpenSSL 3.0.1 1 Jan 2026", "go1.1", "old machine"}, Run{"OpenSSL 3.0.2 1 Jul 2026", "go1.2", "new machine"}
	rows := func() []*Result {
		return []*Result{timedRow("handshake/ec", "handshake", "full", 111), timedRow("resumed/ec", "handshake", "resumed", 222), timedRow("message/64", "message", "64 B", 333)}
	}

	require.NoError(t, write(f, &Results{Run: old, Rows: rows(), Versions: map[string]string{engineName: "one", perlName: "0.41"}, Left: map[string]string{"nginx": "not installed"}}))
	again := &Results{Run: newer, Rows: []*Result{timedRow("resumed/ec", "handshake", "resumed", 444)}, Versions: map[string]string{engineName: "two"}, Left: map[string]string{perlName: notAskedFor}}
	require.NoError(t, write(f, again))

	all, err := readResults(dir)
	require.NoError(t, err)
	require.Len(t, all, 1)
	r := all[0]
	require.Equal(t, newer, r.Run)
	var us []float64
	for _, row := range r.Rows {
		us = append(us, row.Cells[0].Median)
	}
	require.Equal(t, []float64{111, 444, 333}, us)
	require.Equal(t, map[string]string{engineName: "two", perlName: "0.41"}, r.Versions)
	require.Equal(t, map[string]string{"nginx": "not installed"}, r.Left)
	data, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Contains(t, string(data), "\nfull: OpenSSL 3.0.1 1 Jan 2026, go1.1, old machine; 2026-12-01 10:00 UTC, 11 rounds, load 1.00.\n")
	require.Contains(t, string(data), "\nresumed: OpenSSL 3.0.2 1 Jul 2026, go1.2, new machine; 2026-12-01 10:00 UTC, 11 rounds, load 1.00.\n")
	require.Contains(t, string(data), "\nOpenSSL 3.0.1 1 Jan 2026, go1.1, old machine; 2026-12-01 10:00 UTC, 11 rounds, load 1.00.\n", "messages")
	require.Contains(t, string(data), "| machine | new machine | old machine |\n")
	require.Contains(t, string(data), "| Perl original | 0.41 |  |\n")

	// If all rows were measured again, nothing of the old run is left.
	require.NoError(t, write(f, &Results{Run: newer, Rows: rows()}))
	data, err = os.ReadFile(page)
	require.NoError(t, err)
	require.NotContains(t, string(data), "old machine")
	require.NotContains(t, string(data), "full: ")
}
