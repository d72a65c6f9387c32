#!/usr/bin/env bash
# Tests compat/spacemonkeygo with each version of OpenSSL that is given: its own
# tests, in FIPS mode too if that version has it, and those of
# github.com/spacemonkeygo/openssl, which the go command downloads. The old tests are
# used unchanged, through an overlay, and are not a part of this repository.
#
#	scripts/compat.sh [VERSION...]      "system", which is the default, or a version of
#	                                    scripts/mkssl.sh
#
# compat/spacemonkeygo/testdata/old-suite.txt lists the old tests that do not pass,
# each with the reason, and old-suite.cnf is the OpenSSL configuration of the old tests.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
version=v0.0.0-20181017203307-c2dcc5cca94a
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The folder of the old module. A module outside of this one downloads it, since here
# its path is that of compat/spacemonkeygo.
old=$(cd "$work" && go mod download -json "github.com/spacemonkeygo/openssl@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
[ -d "$old" ] || { echo 'compat: the module proxy does not have the old module.' >&2; exit 1; }
export COMPAT_OLD_MODULE=$old

cd compat/spacemonkeygo
names=$(sed -n 's/^func \(Test[A-Za-z0-9_]*\)(t \*testing.T) {$/\1/p' "$old"/*_test.go | sort)
[ -n "$names" ]
listed=$(sed -n 's/^\(Test[A-Za-z0-9_]*\)[[:space:]].*/\1/p' testdata/old-suite.txt)
{
	printf '{"Replace":{'
	separator=
	for file in "$old"/*_test.go; do
		printf '%s"%s":"%s"' "$separator" "$PWD/old_$(basename "$file")" "$file"
		separator=,
	done
	printf '}}\n'
} >"$work/overlay.json"

own=$(cat ./*_test.go | sed -n 's/^func \(Test[A-Za-z0-9_]*\)(t \*testing.T) {$/\1/p' | sort)
same=$(comm -12 <(echo "$names") <(echo "$own"))
[ -z "$same" ] || { echo "compat: both suites have $same: rename ours." >&2; exit 1; }

# both runs the two suites with the OpenSSL of the environment. One test program contains
# both, since compiling C and linking take longer than the tests. The program gets the
# flags that "go test" would pass to it.
both() {
	local run=("$work/openssl.test" -test.paniconexit0 -test.timeout=10m -test.count=1) old passed
	old="^($(echo $names | tr ' ' '|'))\$"
	go test -c -overlay "$work/overlay.json" -o "$work/openssl.test" .
	echo "== $1: its own tests"
	"${run[@]}" -test.skip "$old"
	echo "== $1: the old tests"
	OPENSSL_CONF=$PWD/testdata/old-suite.cnf "${run[@]}" -test.v -test.run "$old" \
		-test.skip "^($(echo ${listed:-none} | tr ' ' '|'))\$" >"$work/log" 2>&1 || { cat "$work/log"; return 1; }
	passed=$(grep -c '^--- PASS: Test' "$work/log") || true
	echo "$passed of $(echo "$names" | wc -l) passed, $(echo "$listed" | grep -c . || true) listed, $(grep -c '^--- SKIP: Test' "$work/log" || true) skipped"
	# a test that is neither run nor listed does not have the form that the pattern above expects
	[ $((passed + $(echo "$listed" | grep -c . || true))) = "$(echo "$names" | wc -l)" ] || { echo 'compat: the numbers do not agree.' >&2; return 1; }
}

# in_fips runs our own tests again in FIPS mode, with the program that both has built. The
# old tests use keys that FIPS does not allow.
in_fips() {
	local conf=$root/.openssl/$1/fips.cnf
	[ -f "$conf" ] || return 0
	echo "== $1 in FIPS mode: its own tests"
	OPENSSL_CONF=$conf "$work/openssl.test" -test.paniconexit0 -test.timeout=10m -test.count=1 \
		-test.skip "^($(echo $names | tr ' ' '|'))\$"
}

[ $# -gt 0 ] || set -- system
for v in "$@"; do
	if [ "$v" = system ]; then
		both "$(pkg-config --modversion libssl)"
	else
		"$root/scripts/mkssl.sh" "$root/.openssl" "$v"
		(. "$root/.openssl/$v/env.sh" && both "$v" && in_fips "$v")
	fi
	unset COMPAT_OLD_MODULE # once: the exported names do not depend on the version
done
