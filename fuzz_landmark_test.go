package sslfilter_test

import "hash/fnv"

// landmarks is a side effect for the branches of landmark.
var landmarks int

// landmark makes the results of OpenSSL visible to the fuzzer, which sees branches of Go
// and not those of C. Another text takes another branch, or another number of loops; the
// fuzzer distinguishes eight numbers.
func landmark(text string) {
	hash := fnv.New32a()
	hash.Write([]byte(text))
	h := hash.Sum32()
	n := 1 << (h >> 5 & 7)
	switch h & 31 {
	case 0:
		for range n {
			landmarks++
		}
	case 1:
		for range n {
			landmarks++
		}
	case 2:
		for range n {
			landmarks++
		}
	case 3:
		for range n {
			landmarks++
		}
	case 4:
		for range n {
			landmarks++
		}
	case 5:
		for range n {
			landmarks++
		}
	case 6:
		for range n {
			landmarks++
		}
	case 7:
		for range n {
			landmarks++
		}
	case 8:
		for range n {
			landmarks++
		}
	case 9:
		for range n {
			landmarks++
		}
	case 10:
		for range n {
			landmarks++
		}
	case 11:
		for range n {
			landmarks++
		}
	case 12:
		for range n {
			landmarks++
		}
	case 13:
		for range n {
			landmarks++
		}
	case 14:
		for range n {
			landmarks++
		}
	case 15:
		for range n {
			landmarks++
		}
	case 16:
		for range n {
			landmarks++
		}
	case 17:
		for range n {
			landmarks++
		}
	case 18:
		for range n {
			landmarks++
		}
	case 19:
		for range n {
			landmarks++
		}
	case 20:
		for range n {
			landmarks++
		}
	case 21:
		for range n {
			landmarks++
		}
	case 22:
		for range n {
			landmarks++
		}
	case 23:
		for range n {
			landmarks++
		}
	case 24:
		for range n {
			landmarks++
		}
	case 25:
		for range n {
			landmarks++
		}
	case 26:
		for range n {
			landmarks++
		}
	case 27:
		for range n {
			landmarks++
		}
	case 28:
		for range n {
			landmarks++
		}
	case 29:
		for range n {
			landmarks++
		}
	case 30:
		for range n {
			landmarks++
		}
	case 31:
		for range n {
			landmarks++
		}
	}
}
