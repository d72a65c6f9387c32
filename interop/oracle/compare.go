package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// Compare lists the differences between r and the expectations of the case, one
// sentence each.
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
		return []string{"new_error: want an error, and there was none"}
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

// compareValue compares objects key by key, so that one wrong CRL is reported alone.
// It compares everything else as a whole.
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

// asJSON returns a value in the form that it has after encoding and decoding as JSON.
func asJSON(v any) any {
	var out any
	if err := decode(encode(v), &out); err != nil {
		panic(err) // it was encoded a moment ago
	}
	return out
}

func show(v any) string { return string(encode(v)) }

// encode works like json.Marshal, without the escapes for HTML.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // every value of this program can be encoded
	}
	return bytes.TrimSpace(b.Bytes())
}
