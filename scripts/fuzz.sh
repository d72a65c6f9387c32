#!/usr/bin/env bash
# scripts/fuzz.sh TIME [TARGET...]: runs every fuzz target of all modules, or those
# that are named, each for TIME ("10m", or "1000x" for a number of inputs), and
# prints what each has done.
# A failure leaves the input in testdata/fuzz of its package; commit it with the
# fix.
set -euo pipefail
cd "$(dirname "$0")/.."

time=${1:?usage: scripts/fuzz.sh TIME [TARGET...]}
shift
go=${GO:-go}
cache=$($go env GOCACHE)/fuzz
# A few inputs are found without coverage too, and then the programs need not be
# compiled with it.
coverage=-fuzz=.
case $time in *x) coverage='' ;; esac
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# fuzz BINARY TARGET runs one target, in the folder of its package. Inputs are reduced a
# little: by default that may take a minute each.
fuzz() {
	(cd "$package" && "$1" -test.run '^$' -test.fuzz "^$2\$" -test.fuzztime "$time" -test.fuzzminimizetime 20x \
		-test.fuzzcachedir "$cache/$($go list)") 2>&1
}

status=0
for package in $(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do
	binary=$dir/$(tr / _ <<<"$package").test
	(cd "$package" && $go test -c $coverage -o "$binary" .)
	for target in $("$binary" -test.list '^Fuzz' | grep '^Fuzz'); do
		if [ $# -gt 0 ] && [[ " $* " != *" $target "* ]]; then
			continue
		fi
		if out=$(fuzz "$binary" "$target"); then
			printf '%-14s %s\n' "$target" "$(grep -o 'elapsed: .*' <<<"$out" | tail -1)"
		elif grep -q '^ *context deadline exceeded$' <<<"$out" && ! grep -q -e 'Failing input' -e panic <<<"$out"; then
			printf '%-14s %s\n' "$target" "$(grep -o 'elapsed: .*' <<<"$out" | tail -1)" # the time ran out inside an input, which is not a failure
		else
			printf '%s\n%s: FAILED\n' "$out" "$target"
			status=1
		fi
	done
done
exit $status
