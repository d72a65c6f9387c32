package servernames

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCommon(t *testing.T) {
	for _, c := range []struct {
		certificates [][]string
		want         []string
	}{
		{nil, nil},
		{[][]string{nil}, nil},
		{[][]string{{"b.test", "A.test", "b.TEST", "*.a.test"}}, []string{"b.test", "a.test", "*.a.test"}},
		{[][]string{{"a.test"}, {"A.TEST", "b.test"}}, []string{"a.test"}},
		{[][]string{{"a.test"}, {"b.test"}}, nil},
		{[][]string{{"a.test"}, nil}, nil},
		{[][]string{{"*.a.test", "a.test"}, {"www.a.test", "a.b.a.test"}}, []string{"www.a.test"}},
		{[][]string{{"*.a.test"}, {"www.a.test", "*.a.test"}, {"*.A.test"}}, []string{"*.a.test", "www.a.test"}},
		{[][]string{{"127.0.0.1", "::1", "*.127.0.0.1", "*", "w*.test", "*.*.test", "a.*.test", "", ".", "a..test", "a.test.", "caf\u00e9.test", "test"}}, []string{"test"}},
	} {
		require.Equal(t, c.want, Common(c.certificates...), "%q", c.certificates)
	}
}

func TestCovers(t *testing.T) {
	names := []string{"A.test", "*.b.test", "*", "c..test"}
	for name, want := range map[string]bool{
		"a.test": true, "x.b.test": true, "*.b.test": true,
		"*.a.test": false, "b.test": false, "x.y.b.test": false, "x": false, "c..test": false, "": false, "x.": false,
	} {
		require.Equal(t, want, Covers(names, name), name)
	}
}
