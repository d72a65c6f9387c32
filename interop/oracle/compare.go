package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// Compare lists where r is not what the case expects, one sentence each.
func Compare(c *Case, r Result) []string {
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(c.Expect)) {
		report := r.Server
		switch name {
		case "server":
		case "client":
			report = r.Client
		default:
			wrong = append(wrong, fmt.Sprintf("%s: there is no such side", name))
			continue
		}
		for _, w := range compareSide(c.Expect[name], report) {
			wrong = append(wrong, name+": "+w)
		}
	}
	return wrong
}

func compareSide(want map[string]any, report *Report) []string {
	if report == nil {
		return []string{"the scenario has no such side"}
	}
	refused := want["new_error"] == true
	switch {
	case refused && report.NewError:
		return nil
	case refused:
		return []string{"new_error: want an error, and it was made"}
	case report.NewError && len(want) > 0:
		return []string{"new_error: " + report.Text}
	}
	got := asJSON(report).(map[string]any)
	var wrong []string
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if key != "new_error" {
			wrong = append(wrong, compareValue(key, asJSON(want[key]), got[key])...)
		}
	}
	return wrong
}

// compareValue compares objects key by key, so that one wrong CRL is told alone,
// and everything else as a whole.
func compareValue(key string, want, got any) []string {
	wants, ok := want.(map[string]any)
	gots, ok2 := got.(map[string]any)
	if !ok || !ok2 {
		if reflect.DeepEqual(want, got) {
			return nil
		}
		return []string{fmt.Sprintf("%s: want %s, got %s", key, show(want), show(got))}
	}
	var wrong []string
	for _, k := range slices.Sorted(maps.Keys(wants)) {
		wrong = append(wrong, compareValue(key+"."+k, wants[k], gots[k])...)
	}
	return wrong
}

// asJSON gives a value as it looks after a trip through JSON.
func asJSON(v any) any {
	var out any
	if err := decode(encode(v), &out); err != nil {
		panic(err) // it was encoded a moment ago
	}
	return out
}

func show(v any) string { return string(encode(v)) }

// encode is json.Marshal without HTML's escapes.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // no value of this program is unfit for JSON
	}
	return bytes.TrimSpace(b.Bytes())
}
