package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The plots are SVG, which this file writes itself: bars with their quartiles, and lines.

var colours = map[string]string{
	engineName: "#1b6ec2", connName: "#6aaee8", cMemName: "#555555", cFlatName: "#9a9a9a", goName: "#2a9d5c", forkName: "#d1772b", monkeyName: "#d1772b", perlName: "#8d4bab",
	nginxName: "#b5a12b", sServerName: "#555555",
}

type canvas struct {
	strings.Builder
	width, height float64
}

func newCanvas(width, height float64, title string) *canvas {
	c := &canvas{width: width, height: height}
	fmt.Fprintf(c, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(c, `<rect width="%.0f" height="%.0f" fill="white"/>`+"\n", width, height)
	c.text(12, 20, "start", "bold", title)
	return c
}

func (c *canvas) text(x, y float64, anchor, weight, s string) {
	fmt.Fprintf(c, `<text x="%.1f" y="%.1f" text-anchor="%s" font-weight="%s" fill="#222">%s</text>`+"\n", x, y, anchor, weight, html.EscapeString(s))
}

func (c *canvas) line(x1, y1, x2, y2 float64, colour string, width float64) {
	fmt.Fprintf(c, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="%.1f"/>`+"\n", x1, y1, x2, y2, colour, width)
}

func (c *canvas) done() string { return c.String() + "</svg>\n" }

// legend writes the names below the title and returns the height that it used.
func (c *canvas) legend(names []string) float64 {
	x, y := 12., 40.
	for _, name := range names {
		width := 26 + 7*float64(len(name))
		if x+width > c.width {
			x, y = 12, y+18
		}
		fmt.Fprintf(c, `<rect x="%.1f" y="%.1f" width="12" height="12" fill="%s"/>`+"\n", x, y-10, colours[name])
		c.text(x+16, y, "start", "normal", name)
		x += width
	}
	return y + 12
}

// bars draws the rows one below the other. Each row has its own scale, because
// a handshake and a message differ too much for a common one.
func bars(title string, rows []*Result) string {
	const left, right, bar, gap = 12., 90., 15., 34.
	names, height := []string(nil), 70.
	for _, row := range rows {
		height += gap
		for _, cell := range row.Cells {
			if cell.Left != "" {
				continue
			}
			height += bar
			if !contains(names, cell.Name) {
				names = append(names, cell.Name)
			}
		}
	}
	c := newCanvas(760, height+20, title)
	y := c.legend(names)
	for _, row := range rows {
		most := 0.
		for _, cell := range row.Cells {
			most = max(most, cell.Q3, cell.Median)
		}
		y += 22
		c.text(left, y, "start", "normal", row.Title+" ("+row.Unit+")")
		y += 6
		for _, cell := range row.Cells {
			if cell.Left != "" {
				continue
			}
			at := func(v float64) float64 { return left + v/most*(c.width-left-right) }
			fmt.Fprintf(c, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"><title>%s: %s</title></rect>`+"\n",
				left, y, at(cell.Median)-left, bar-3, colours[cell.Name], html.EscapeString(cell.Name), figure(cell.Median))
			if cell.Q3 > cell.Q1 {
				c.line(at(cell.Q1), y+(bar-3)/2, at(cell.Q3), y+(bar-3)/2, "#111", 1.5)
			}
			c.text(max(at(cell.Median), at(cell.Q3))+6, y+bar-5, "start", "normal", figure(cell.Median))
			y += bar
		}
	}
	return c.done()
}

func contains(list []string, s string) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}

// lines draws a value for each row, which is a number of connections. The scale of the
// value is logarithmic, and the rows have equal distances.
func lines(title, unit string, rows []*Result, value func(*Cell) float64) string {
	const left, right, bottom = 60., 20., 40.
	var names []string
	low, high := math.Inf(1), 0.
	for _, row := range rows {
		for _, cell := range row.Cells {
			if cell.Left != "" {
				continue
			}
			if !contains(names, cell.Name) {
				names = append(names, cell.Name)
			}
			low, high = min(low, value(cell)), max(high, value(cell))
		}
	}
	c := newCanvas(760, 330, title+" ("+unit+")")
	top := c.legend(names) + 14
	if high == 0 || low <= 0 || len(rows) < 2 {
		return c.done()
	}
	low, high = math.Log10(low*.8), math.Log10(high*1.2)
	x := func(i int) float64 { return left + float64(i)/float64(len(rows)-1)*(c.width-left-right-20) }
	y := func(v float64) float64 {
		return c.height - bottom - (math.Log10(v)-low)/(high-low)*(c.height-bottom-top)
	}
	for e := math.Floor(low); e <= high; e++ {
		for _, m := range []float64{1, 2, 5} {
			v := m * math.Pow(10, e)
			if l := math.Log10(v); l < low || l > high {
				continue
			}
			c.line(left, y(v), c.width-right, y(v), "#ddd", 1)
			c.text(left-6, y(v)+4, "end", "normal", figure(v))
		}
	}
	for i, row := range rows {
		c.text(x(i), c.height-14, "middle", "normal", row.Title)
	}
	for _, name := range names {
		var points []string
		for i, row := range rows {
			if cell := row.cell(name); cell != nil {
				points = append(points, fmt.Sprintf("%.1f,%.1f", x(i), y(value(cell))))
				fmt.Fprintf(c, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(i), y(value(cell)), colours[name])
			}
		}
		fmt.Fprintf(c, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), colours[name])
	}
	return c.done()
}

// plots returns the drawings of a series, by name.
func plots(r *Results) map[string]string {
	list := make(map[string]string)
	for _, p := range []struct{ group, title string }{
		{"handshake", "Handshakes, both ends, µs of processor time"},
		{"message", "One message sent and received, µs of processor time"},
		{"burst", "A message in a burst, µs of processor time"},
		{"memory", "Memory of an idle server connection, KB"},
		{"sockets", "HTTPS servers on one processor"},
	} {
		if rows := r.group(p.group); len(rows) > 0 {
			list[p.group] = bars(p.title+", OpenSSL "+r.series(), rows)
		}
	}
	if rows := r.group("growth"); len(rows) > 0 {
		list["growth"] = lines("1 KiB sent and received, each on the next connection, OpenSSL "+r.series(), "µs", rows, func(c *Cell) float64 { return c.Median })
	}
	return list
}
