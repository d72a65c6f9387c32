#!/usr/bin/env bash
# Builds and tests with every OpenSSL that is named, each in its private folder
# (scripts/mkssl.sh). 1.1.1, 3.0 and 3.5 must pass; 3.6 and 4.0 come out of
# moving suites and are reported.
#
#	scripts/matrix.sh [-d DIR] [VERSION...]
set -euo pipefail
cd "$(dirname "$0")/.."
dir=.openssl
if [ "${1:-}" = -d ]; then
	dir=$2
	shift 2
fi
[ $# -gt 0 ] || set -- 1.1.1 3.0 3.5 3.6 4.0
status=0 table=''
for version in "$@"; do
	case $version in 1.1.1 | 3.0 | 3.5) must=yes ;; *) must='' ;; esac
	echo "== OpenSSL $version"
	if ! scripts/mkssl.sh "$dir" "$version"; then
		result='not to be had'
	elif (. "$dir/$version/env.sh" && go test -count=1 -short ./...); then
		result=passed
	else
		result=FAILED
	fi
	[ "$result" = passed ] || [ -z "$must" ] || status=1
	table+="$version"$'\t'"$result"$'\t'"$([ -n "$must" ] && echo 'must pass' || echo reported)"$'\n'
done
printf '\n%s' "$table" | expand -t 8,24
exit $status
