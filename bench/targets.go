package main

import "fmt"

// target is a goal: a ratio or an amount. Lower is better unless more is set.
type target struct {
	what       string
	least, aim float64
	more       bool
	unit       string
	measured   func(r *Results) (float64, bool)
}

// slower returns the time of the base divided by that of other.
func slower(key, other string) func(r *Results) (float64, bool) {
	return func(r *Results) (float64, bool) {
		c := r.cell(key, other)
		if c == nil {
			return 0, false
		}
		return c.Ratio.Median, true
	}
}

// faster returns the time of other divided by that of the base.
func faster(key, other string) func(r *Results) (float64, bool) {
	return func(r *Results) (float64, bool) {
		v, ok := slower(key, other)(r)
		return 1 / v, ok && v > 0
	}
}

func amount(key, name string) func(r *Results) (float64, bool) {
	return func(r *Results) (float64, bool) {
		c := r.cell(key, name)
		if c == nil {
			return 0, false
		}
		return c.Median, true
	}
}

// goals returns the targets. With OpenSSL 3.5 and later, the target for the
// memory of a connection is relative to C, because OpenSSL itself uses more.
func goals(r *Results) []target {
	binding := bindingName(r.OpenSSL)
	list := []target{
		{"engine / C over memory BIOs, 64 B", 1.15, 1.0, false, "", slower("message/64", cMemName)},
		{"engine / C over memory BIOs, 1 KiB", 1.05, .9, false, "", slower("message/1024", cMemName)},
		{"engine / C over memory BIOs, 16 KiB", 1.05, .9, false, "", slower("message/16384", cMemName)},
		{"engine / C over memory BIOs, 256 KiB", 1.05, .9, false, "", slower("message/262144", cMemName)},
		{"engine / C over memory BIOs, full handshake, P-256", 1.05, 1.0, false, "", slower("handshake/ec", cMemName)},
		{"engine / C over memory BIOs, full handshake, RSA-2048", 1.05, 1.0, false, "", slower("handshake/rsa", cMemName)},
		{"engine / C over memory BIOs, resumed handshake, P-256", 1.05, 1.0, false, "", slower("resumed/ec", cMemName)},
		{"engine / C over memory BIOs, resumed handshake, RSA-2048", 1.05, 1.0, false, "", slower("resumed/rsa", cMemName)},
		{"resumed handshake, client certificate verified again / full handshake, both ends", .6, .5, false, "", verifiedAgainRatio},
		{"Conn / engine, 16 KiB, in memory", 1.15, 1.05, false, "", faster("message/16384", connName)},
		{"times faster than " + binding + ", 64 B", 2.5, 4, true, "", faster("message/64", binding)},
		{"times faster than " + binding + ", 16 KiB", 1.6, 2, true, "", faster("message/16384", binding)},
		{"times faster than " + binding + ", full handshake, P-256", 1.4, 1.6, true, "", faster("handshake/ec", binding)},
		{"times faster than the Perl original, 16 KiB", 1.5, 2, true, "", faster("message/16384", perlName)},
		{"times faster than the Perl original, full handshake, P-256", 2, 4, true, "", faster("handshake/ec", perlName)},
		{"times faster than crypto/tls, full handshake, RSA-2048", 1, 1.4, true, "", faster("handshake/rsa", goName)},
		{"times faster than crypto/tls, 16 KiB", 1, 1.4, true, "", faster("message/16384", goName)},
		{"times faster than crypto/tls, 100 messages of 64 B in one burst", 1, 1.4, true, "", faster("burst/64", goName)},
		{"sealing and opening 64 B / two calls of C that use EVP", 2, 1.5, false, "", slower("cipher/sealed/64", callName)},
		{"throughput of CipherSealed / openssl speed, 16 KiB", .9, .95, true, "", faster("cipher/sealed/16384", speedName)},
		{"throughput of CipherEnc / openssl speed, 16 KiB", .9, .95, true, "", faster("cipher/enc/16384", speedName)},
		{"allocations of Send, Outgoing and Receive together, all sizes", 0, 0, false, "", allocations},
		{"idle server connection, C and Go, fresh", 20, 12, false, " KB", amount("memory/0", engineName)},
		{"idle server connection, C and Go, after 1 MiB each way", 20, 12, false, " KB", amount("memory/1048576", engineName)},
		{"NewFilter from a ready Ctx, and Close", 10, 5, false, " µs", amount("new", engineName)},
	}
	if r.series() >= "3.5" {
		for i := range list {
			if key := map[string]string{
				"idle server connection, C and Go, fresh":                "memory/0",
				"idle server connection, C and Go, after 1 MiB each way": "memory/1048576",
			}[list[i].what]; key != "" {
				if c := r.cell(key, cFlatName); c != nil {
					list[i].least = 1.1 * c.Median
					list[i].what += " (least: 1.1 times C over plain buffers)"
				}
			}
		}
	} else {
		for i := range list {
			if list[i].what == "times faster than crypto/tls, 16 KiB" {
				list[i].what += " (required with 3.5 only)"
			}
		}
	}
	return list
}

// verifiedAgainRatio compares two rows of the engine in one run.
func verifiedAgainRatio(r *Results) (float64, bool) {
	resumed, full := r.cell("certificate/resumed", engineName), r.cell("certificate/full", engineName)
	if resumed == nil || full == nil || full.Median == 0 {
		return 0, false
	}
	return resumed.Median / full.Median, true
}

func allocations(r *Results) (sum float64, found bool) {
	for _, row := range r.group("calls") {
		for _, c := range row.Cells {
			sum += c.Parts[0]
			found = true
		}
	}
	return sum, found
}

// targets returns the lines of the table of targets.
func targets(r *Results) [][]string {
	lines := [][]string{{"what", "least", "aim", "measured", "met"}}
	for _, g := range goals(r) {
		sign := "≤ "
		if g.more {
			sign = "≥ "
		}
		line := []string{g.what, sign + figure(g.least) + g.unit, sign + figure(g.aim) + g.unit, "not measured", ""}
		if v, ok := g.measured(r); ok {
			line[3] = fmt.Sprintf("%s%s", figure(v), g.unit)
			reaches := func(limit float64) bool { return v <= limit && !g.more || v >= limit && g.more }
			switch {
			case reaches(g.aim):
				line[4] = "aim"
			case reaches(g.least):
				line[4] = "least"
			default:
				line[4] = "missed"
			}
		}
		lines = append(lines, line)
	}
	return lines
}
