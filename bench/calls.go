package main

import (
	"fmt"
	"time"
)

// counts counts the allocations of each call of the data path and its calls into
// C. They are the same in every run.
func (r *runner) counts() ([]*Result, error) {
	s, err := r.get(engineName)
	if err != nil {
		return nil, err
	}
	var list []*Result
	type work struct{ key, title, kind, arg string }
	var all []work
	for _, size := range sizes {
		arg := fmt.Sprint(size.bytes)
		all = append(all, work{"calls/" + arg, size.title, "calls", arg})
	}
	for _, size := range sizes[:3] {
		arg := fmt.Sprint(size.bytes)
		all = append(all, work{"calls/sealed/" + arg, "CipherSealed, " + size.title, "calls sealed", arg})
	}
	for _, w := range all {
		got, err := s.Run(w.kind, w.arg, 200)
		if err != nil {
			return nil, err
		}
		res := &Result{
			Key: w.key, Group: "calls", Title: w.title, Unit: "allocations, crossings",
			When: time.Now().UTC().Format("2006-01-02 15:04"), Load: load(),
		}
		for i, name := range []string{"Send", "Outgoing", "Receive"} {
			res.Cells = append(res.Cells, &Cell{Name: name, Stat: Stat{got[i], got[i], got[i]}, Parts: []float64{got[i], got[3+i]}})
		}
		list = append(list, res)
	}
	return list, nil
}
