package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var marked = regexp.MustCompile(`(?s)(<!-- bench:begin ([a-z]+) -->\n).*?(<!-- bench:end -->)`)

// document rewrites the marked parts of a page.
func document(path, out string, all []*Results) error {
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	plotDir, err := filepath.Rel(filepath.Dir(path), out)
	if err != nil {
		return err
	}
	unknown := ""
	text := marked.ReplaceAllStringFunc(string(page), func(part string) string {
		m := marked.FindStringSubmatch(part)
		body, known := section(m[2], filepath.ToSlash(plotDir), all)
		if !known {
			unknown = m[2]
		}
		return m[1] + "\n" + body + "\n" + m[3]
	})
	if unknown != "" {
		return fmt.Errorf("%s: unknown part %q", path, unknown)
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func section(name, plotDir string, all []*Results) (string, bool) {
	parts := map[string]func(*Results) string{
		"conditions": conditions, "targets": targetTable, "calls": callTable, "model": modelTable,
		"memory": memoryTable, "growth": growthTable,
		"settings": func(r *Results) string { return costTable(r, "settings") },
		"variants": func(r *Results) string { return costTable(r, "variants") },
	}
	plain := []string{"handshake", "message", "burst", "setup", "crl", "cipher", "compat", "sockets"}
	f := parts[name]
	if f == nil {
		if !slices.Contains(plain, name) {
			return "", false
		}
		f = func(r *Results) string { return groupTable(r, name) }
	}
	var b strings.Builder
	for _, r := range all {
		text := f(r)
		if text == "" {
			continue
		}
		fmt.Fprintf(&b, "OpenSSL %s:\n\n%s%s\n", r.series(), measured(r, r.group(name)), text)
		if _, drawn := plots(r)[name]; drawn {
			fmt.Fprintf(&b, "![%s, OpenSSL %s](%s/%s-%s.svg)\n\n", name, r.series(), plotDir, r.series(), name)
		}
	}
	return strings.TrimRight(b.String(), "\n") + "\n", true
}

func table(lines [][]string) string {
	var b strings.Builder
	for i, line := range lines {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(line, " | "))
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(line)) + "|\n")
		}
	}
	return b.String()
}

// conditions has a column for each run that rows are from. The last run is the first
// column, which also has the versions of the contenders.
func conditions(r *Results) string {
	runs, of := r.runs(r.Rows)
	if i := slices.Index(runs, r.Run); i > 0 {
		runs[0], runs[i] = runs[i], runs[0]
	}
	lines := [][]string{{"what"}, {"OpenSSL"}, {"Go"}, {"machine"}, {"measured (UTC)"}, {"load of the machine meanwhile (1 would be this benchmark alone)"}, {"rounds"}, {"parts"}}
	for i, run := range runs {
		head := "version or value"
		if len(runs) > 1 {
			head = fmt.Sprintf("run %d", i+1)
		}
		rows := of[run]
		when, load, rounds := circumstances(rows)
		var groups []string
		for _, row := range rows {
			if !slices.Contains(groups, row.Group) {
				groups = append(groups, row.Group)
			}
		}
		for j, text := range []string{head, run.OpenSSL, run.Go, run.Machine, when, load, rounds, strings.Join(groups, ", ")} {
			lines[j] = append(lines[j], text)
		}
	}
	if len(runs) == 1 {
		lines = lines[:len(lines)-1]
	}
	cells := len(lines[0])
	add := func(name, text string) {
		line := []string{name, text}
		for len(line) < cells {
			line = append(line, "")
		}
		lines = append(lines, line)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		if name != plainName && name != singleName {
			add(name, r.Versions[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Left)) {
		add(name, "left out: "+strings.ReplaceAll(r.Left[name], "|", " "))
	}
	if bindingName(r.OpenSSL) != monkeyName {
		add(monkeyName, "does not build with OpenSSL 3; its fork by libp2p stands in for it")
	}
	return table(lines)
}

// circumstances returns when rows were measured, the load meanwhile and their rounds.
func circumstances(rows []*Result) (when, meanwhile, rounds string) {
	span := func(low, high string) string {
		if low == high {
			return low
		}
		return low + " to " + high
	}
	first, last := rows[0].When, rows[0].When
	low, high := rows[0].Load, rows[0].Load
	least, most := 0, 0
	for _, row := range rows {
		first, last = min(first, row.When), max(last, row.When)
		low, high = min(low, row.Load), max(high, row.Load)
		if row.Rounds > 0 {
			least, most = min(cmp.Or(least, row.Rounds), row.Rounds), max(most, row.Rounds)
		}
	}
	return span(first, last), span(figure(low), figure(high)), span(fmt.Sprint(least), fmt.Sprint(most))
}

// measured says in one line for each run what the rows of a part were measured with.
func measured(r *Results, rows []*Result) string {
	var b strings.Builder
	runs, of := r.runs(rows)
	for _, run := range runs {
		if len(runs) > 1 {
			var titles []string
			for _, row := range of[run] {
				titles = append(titles, row.Title)
			}
			fmt.Fprintf(&b, "%s: ", strings.Join(titles, "; "))
		}
		when, load, rounds := circumstances(of[run])
		fmt.Fprintf(&b, "%s, %s, %s; %s UTC", run.OpenSSL, run.Go, run.Machine, when)
		switch rounds {
		case "0": // counted
		case "1":
			fmt.Fprintf(&b, ", 1 round, load %s", load)
		default:
			fmt.Fprintf(&b, ", %s rounds, load %s", rounds, load)
		}
		b.WriteString(".\n\n")
	}
	return b.String()
}

func targetTable(r *Results) string { return table(targets(r)) }

// groupTable has one line for each row and one column for each contender.
func groupTable(r *Results, group string) string {
	rows := r.group(group)
	if len(rows) == 0 {
		return ""
	}
	names, notes := columns(rows)
	lines := [][]string{append([]string{"work", "unit"}, names...)}
	for _, row := range rows {
		line := []string{row.Title, row.Unit}
		for _, name := range names {
			line = append(line, span(row.cell(name)))
		}
		lines = append(lines, line)
	}
	return table(lines) + notes
}

func columns(rows []*Result) (names []string, notes string) {
	var why []string
	for _, row := range rows {
		for _, c := range row.Cells {
			if c.Left == "" && !slices.Contains(names, c.Name) {
				names = append(names, c.Name)
			}
			if note := c.Name + ": " + c.Left; c.Left != "" && c.Left != "has no such thing" && !slices.Contains(why, note) {
				why = append(why, note)
			}
		}
	}
	if len(why) > 0 {
		notes = "\nLeft out: " + strings.Join(why, "; ") + ".\n"
	}
	return names, notes
}

// span formats a median with its quartiles.
func span(c *Cell) string {
	switch {
	case c == nil:
		return "–"
	case c.Q1 == c.Q3:
		return figure(c.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", figure(c.Median), figure(c.Q1), figure(c.Q3))
}

func memoryTable(r *Results) string {
	rows := r.group("memory")
	if len(rows) == 0 {
		return ""
	}
	names, notes := columns(rows)
	lines := [][]string{{"KB each"}}
	for _, row := range rows {
		lines[0] = append(lines[0], row.Title+": together", "C", "Go", "resident")
	}
	for _, name := range names {
		line := []string{name}
		for _, row := range rows {
			c := row.cell(name)
			for i := range 4 {
				switch {
				case c == nil || len(c.Parts) != 4, name == perlName && (i == 1 || i == 2):
					line = append(line, "–")
				default:
					line = append(line, figure(c.Parts[i]))
				}
			}
		}
		lines = append(lines, line)
	}
	return table(lines) + notes
}

func growthTable(r *Results) string {
	rows := r.group("growth")
	if len(rows) == 0 {
		return ""
	}
	names, _ := columns(rows)
	lines := [][]string{{"held at once, both ends"}}
	for _, name := range names {
		lines[0] = append(lines[0], name+", µs", "KB each")
	}
	for _, row := range rows {
		line := []string{row.Title}
		for _, name := range names {
			c := row.cell(name)
			if c == nil || len(c.Parts) < 1 {
				line = append(line, "–", "–")
				continue
			}
			line = append(line, figure(c.Median), figure(c.Parts[0]))
		}
		lines = append(lines, line)
	}
	return table(lines)
}

// costTable shows the time of each variant relative to the first one.
func costTable(r *Results, group string) string {
	rows := r.group(group)
	if len(rows) == 0 {
		return ""
	}
	names, notes := columns(rows)
	head := []string{"what"}
	for _, row := range rows {
		head = append(head, row.Title+", µs", "change")
	}
	lines := [][]string{head}
	for _, name := range names {
		line := []string{name}
		for _, row := range rows {
			c := row.cell(name)
			if c == nil {
				line = append(line, "–", "–")
				continue
			}
			line = append(line, figure(c.Median), fmt.Sprintf("%+.1f %%", (1/c.Ratio.Median-1)*100))
		}
		lines = append(lines, line)
	}
	return table(lines) + notes
}

func callTable(r *Results) string {
	rows := r.group("calls")
	if len(rows) == 0 {
		return ""
	}
	lines := [][]string{{"message", "Send", "Outgoing", "Receive"}}
	for _, row := range rows {
		line := []string{row.Title}
		for _, c := range row.Cells {
			line = append(line, fmt.Sprintf("%g allocations, %g crossings", c.Parts[0], c.Parts[1]))
		}
		lines = append(lines, line)
	}
	return table(lines)
}

// modelTable computes the memory and the cores that a front end needs for a million
// connections, from the cost of one connection.
func modelTable(r *Results) string {
	idle, kept, fresh := r.cell("memory/1048576", engineName), r.cell("sockets/kept", engineName), r.cell("sockets/new", engineName)
	full, resumed := r.cell("handshake/ec", engineName), r.cell("resumed/ec", engineName)
	rsa := r.cell("handshake/rsa", engineName)
	if idle == nil || kept == nil || fresh == nil || full == nil || resumed == nil || rsa == nil {
		return ""
	}
	const million = 1e6
	cores := func(us, perSecond float64) string { return figure(us * perSecond / 1e6) }
	lines := [][]string{
		{"a million connections", "from", "needs"},
		{"idle, engine alone", figure(idle.Parts[0]) + " KB each", figure(idle.Parts[0]*1024*million/1e9) + " GB"},
		{"idle, with a goroutine in Read each (stack of 8 KB)", figure(idle.Parts[0]+8) + " KB each", figure((idle.Parts[0]+8)*1024*million/1e9) + " GB"},
		{"all of them new within 10 minutes, P-256, HTTP request and end included", figure(fresh.Median) + " µs each", cores(fresh.Median, million/600) + " cores"},
		{"all of them new within 1 minute", figure(fresh.Median) + " µs each", cores(fresh.Median, million/60) + " cores"},
		{"each sends a small request once a minute", figure(kept.Median) + " µs each", cores(kept.Median, million/60) + " cores"},
		{"each sends a small request every 5 seconds", figure(kept.Median) + " µs each", cores(kept.Median, million/5) + " cores"},
	}
	return table(lines) + fmt.Sprintf("\nBoth ends of a handshake take %s µs with P-256, %s with RSA-2048, and %s if a session is resumed.\n",
		figure(full.Median), figure(rsa.Median), figure(resumed.Median))
}
