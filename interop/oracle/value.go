package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// maxData bounds the data that one message may generate with {"len"} or {"times"}, in
// bytes. It is far above the limit of a filter.
const maxData = 1 << 30

// truth reports whether Perl treats the value as true: not undef, "", "0" or 0.
func truth(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != "" && v != "0"
	case json.Number:
		f, err := v.Float64()
		return err != nil || f != 0
	}
	return true
}

// text returns a scalar as Perl prints it. ok is false for lists, objects and null.
func text(v any) (s string, ok bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		if v {
			return "1", true
		}
		return "0", true
	}
	return "", false
}

// number returns an integer, which may be written as a string. null is 0.
func number(what string, v any) (int, error) {
	if v == nil {
		return 0, nil
	}
	s, ok := text(v)
	if !ok {
		return 0, fmt.Errorf("%s is not a number", what)
	}
	s = strings.TrimSpace(s)
	if n, err := strconv.Atoi(s); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > math.MaxInt32 {
		return 0, fmt.Errorf("%s is %q, which is not a number", what, s)
	}
	return int(f), nil
}

// item makes one element of a message's data: []byte, httpResponse or nil.
func item(v any) (any, error) {
	if m, ok := v.(map[string]any); ok && m["http_response"] != nil {
		content, ok := text(m["http_response"])
		if !ok {
			return nil, fmt.Errorf("an http_response that is not a string")
		}
		return httpResponse(content), nil
	}
	data, err := payload(v)
	if err != nil || data == nil {
		return nil, err
	}
	return data, nil
}

// payload returns the bytes of one message. nil is Perl's undef.
func payload(v any) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	if s, ok := text(v); ok {
		return []byte(s), nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("data that is a list")
	}
	switch {
	case m["hex"] != nil:
		return unhex(m["hex"])
	case m["len"] != nil:
		return generated(m)
	case m["wide"] != nil: // the original sends character strings as UTF-8 too
		return repeated(m["wide"], nil)
	case m["text"] != nil:
		return repeated(m["text"], m["times"])
	}
	return nil, fmt.Errorf("data of unknown form")
}

// unhex works like Perl's pack 'H*': a digit that is missing at the end is 0.
func unhex(v any) ([]byte, error) {
	s, _ := text(v)
	if len(s)%2 == 1 {
		s += "0"
	}
	return hex.DecodeString(s)
}

// generated makes the first "len" bytes of sha256(seed ":" 0) sha256(seed ":" 1) ...
func generated(m map[string]any) ([]byte, error) {
	n, err := number("len", m["len"])
	if err != nil || n < 0 || n > maxData {
		return nil, fmt.Errorf("data with len %v", m["len"])
	}
	seed, ok := text(m["seed"])
	if !ok {
		seed = "0"
	}
	data := make([]byte, 0, n+sha256.Size)
	for i := 0; len(data) < n; i++ {
		block := sha256.Sum256([]byte(seed + ":" + strconv.Itoa(i)))
		data = append(data, block[:]...)
	}
	return data[:n], nil
}

func repeated(v, times any) ([]byte, error) {
	s, ok := text(v)
	if !ok {
		return nil, fmt.Errorf("text is not a string")
	}
	n := 1
	if times != nil {
		var err error
		if n, err = number("times", times); err != nil || len(s)*max(n, 0) > maxData {
			return nil, fmt.Errorf("data with times %v", times)
		}
	}
	return []byte(strings.Repeat(s, max(n, 0))), nil
}
