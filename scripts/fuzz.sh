#!/usr/bin/env bash
# scripts/fuzz.sh TIME [TARGET...]: runs every fuzz target of the module, or those
# that are named, each for TIME ("10m", or "1000x" for a number of inputs), and
# prints what each has done.
# A failure leaves the input in testdata/fuzz of its package; commit it with the
# mend.
set -euo pipefail
cd "$(dirname "$0")/.."

time=${1:?usage: scripts/fuzz.sh TIME [TARGET...]}
shift
status=0
for package in $(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do
	for target in $(${GO:-go} test -list '^Fuzz' "$package" | grep '^Fuzz'); do
		if [ $# -gt 0 ] && [[ " $* " != *" $target "* ]]; then
			continue
		fi
		# Inputs are reduced a little: by default that may take a minute each.
		if out=$(${GO:-go} test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 20x "$package" 2>&1); then
			printf '%-14s %s\n' "$target" "$(grep -o 'elapsed: .*' <<<"$out" | tail -1)"
		elif grep -q '^ *context deadline exceeded$' <<<"$out" && ! grep -q -e 'Failing input' -e panic <<<"$out"; then
			printf '%-14s %s\n' "$target" "$(grep -o 'elapsed: .*' <<<"$out" | tail -1)" # go test lost a race with its own clock
		else
			printf '%s\n%s: FAILED\n' "$out" "$target"
			status=1
		fi
	done
done
exit $status
