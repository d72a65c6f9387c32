#!/bin/sh
# Prints how much of the root package the tests run: of the Go code under all
# tests, and of each of its C files under its own tests.
# The Go profile stays as cover.out, the C listings as cgo_*.c.out.
set -eu
cd "$(dirname "$0")/.."
status=0
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

echo '== Go: the root package under all tests'
go test -coverpkg=. -coverprofile=cover.out ./... >"$dir/log" 2>&1 || { status=1; cat "$dir/log"; }
go tool cover -func=cover.out | tail -n 1

echo '== C: under the tests of the root package'
mkdir "$dir/tmp"
# A Go program ends without C's exit handlers, which would write the counts, so
# a file that exists only in this build writes them again and again.
cat >"$dir/gcov.go" <<'GO'
package sslfilter

// void __gcov_dump(void);
// void __gcov_reset(void);
import "C"

import "time"

func init() {
	go func() {
		for ; ; time.Sleep(20 * time.Millisecond) {
			C.__gcov_dump()
			C.__gcov_reset()
		}
	}()
}
GO
printf '{"Replace": {"%s/gcov.go": "%s/gcov.go"}}' "$PWD" "$dir" >"$dir/overlay.json"
# -work keeps the folder in which cgo compiles, with gcc's notes. The define makes
# this build different from all earlier ones, because a cached build has no notes.
GOTMPDIR="$dir/tmp" CGO_CFLAGS="--coverage -O0 -DFSSL_COVER_$$" CGO_LDFLAGS=--coverage \
	go test -work -overlay "$dir/overlay.json" -c -o "$dir/root.test" . 2>"$dir/log" || { cat "$dir/log" >&2; exit 1; }
"$dir/root.test" >"$dir/log" 2>&1 || { status=1; cat "$dir/log"; }
for file in cgo_*.c; do
	notes=$(find "$dir/tmp" -name '*.gcno' -exec grep -alF "$file" {} + | head -n 1)
	gcov -o "$notes" "$notes" 2>/dev/null | grep -A1 "^File '$file'" || { echo "cover: $file was not measured." >&2; status=1; }
	[ ! -f "$file.gcov" ] || mv "$file.gcov" "$file.out" # "#####" marks lines that never ran
	rm -f ./*.gcov
done
exit $status
