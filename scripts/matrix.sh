#!/usr/bin/env bash
# Builds and tests with each OpenSSL version that is given, in a folder of its own
# (scripts/mkssl.sh), and prints a table.
#
#	scripts/matrix.sh [-a] [-d DIR] [LEG...]
#
# A leg is a version, or a version and "fips":
#
#	1.1.1 3.0 3.5      must pass: the tests of all packages but examples and cmd/sslrelay
#	3.0-fips           must pass: the tests of the engine and of sslnet, with the system's
#	                   3.0 and 3.5's FIPS module
#	3.5-fips           must pass: the tests of the library and of the relay, with 3.5 and
#	                   its own FIPS module
#	3.6 4.0            must pass if Debian's changing suites have them: the tests of the
#	                   engine, of its network layers, of failing allocations and of the
#	                   recorded cases
#
# 1.1.1 and 3.5-fips also run the tests of adapters/redis that depend most on OpenSSL.
#
# With -a, each leg tests all packages. By default all legs run. 3.0 is left out if the
# system's own OpenSSL is a 3.0, since all other tests use it. Two legs run at a time; the
# output of each is printed when it and those before it have ended.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=.openssl all=''
while getopts ad: option; do
	case $option in
	a) all=yes ;;
	d) dir=$OPTARG ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
system=$(pkg-config --modversion libssl)
if [ $# = 0 ]; then
	set -- 1.1.1 3.5 3.0-fips 3.5-fips 3.6 4.0
	case $system in 3.0.*) ;; *) set -- 1.1.1 3.0 "${@:2}" ;; esac
fi

# enter LEG sets the environment in which the leg is built and run.
enter() {
	case $1 in
	3.0-fips)
		case $system in 3.0.*) ;; *) . "$dir/3.0/env.sh" ;; esac
		export OPENSSL_MODULES=$dir/3.5/modules OPENSSL_CONF=$dir/3.5/fips-3.0.cnf
		;;
	3.5-fips)
		. "$dir/3.5/env.sh"
		export OPENSSL_CONF=$dir/3.5/fips.cnf
		;;
	*)
		. "$dir/$1/env.sh"
		# for contexts with Options.FIPS in a process that does not use FIPS otherwise
		if [ -f "$dir/$1/fips.cnf" ]; then
			export SSLFILTER_FIPS_CONFIG=$dir/$1/fips.cnf SSLFILTER_REQUIRE="${SSLFILTER_REQUIRE-} fips"
		fi
		;;
	esac
}

# sources LEG prints the versions that the leg needs.
sources() {
	case $1 in
	3.0-fips) case $system in 3.0.*) echo 3.5 ;; *) echo 3.0 3.5 ;; esac ;;
	*) echo "${1%-fips}" ;;
	esac
}

# run LEG PACKAGE... tests these packages; go vet has its own step. The tests that are
# skipped read source files. Two legs run at a time, and many tests wait for another
# program, so as many packages as there are processors are tested at a time in each.
run() (
	enter "$1"
	shift
	go test -timeout 40m -p "$(nproc)" -count=1 -vet=off -short -skip '^(TestDocs|TestLanguage|TestLayering)' "$@"
)

# fleet LEG tests ticket keys and sessions of several servers.
fleet() (
	enter "$1"
	cd adapters/redis
	go test -count=1 -vet=off -run '^(TestKeeperRetain|TestClientTLS|TestFleetClientCertificates|TestFleetRotationUnderLoad)$' .
)

library='. ./filter ./wheel ./sslnet ./sslhttp ./sslsession ./sslstaple ./interop/oracle'

# choose LEG sets the packages that it tests, and whether it must pass.
choose() {
	case $1 in
	1.1.1 | 3.0 | 3.5) must='must pass' packages="$library ./internal/memfault ./internal/relay ./cmd/sslfilter-enc ./interop ./interop/live ./interop/certs" ;;
	3.0-fips) must='must pass' packages='. ./sslnet' ;;
	3.5-fips) must='must pass' packages="$library ./internal/relay ./cmd/sslfilter-enc ./interop/live" ;;
	3.6 | 4.0) must='must pass if available' packages="$library ./internal/memfault" ;;
	*)
		echo "matrix: \"$1\" is not one of 1.1.1, 3.0, 3.5, 3.0-fips, 3.5-fips, 3.6, 4.0." >&2
		exit 2
		;;
	esac
	[ -z "$all" ] || packages=./...
}

# try LEG tests it, and writes its row of the table.
try() {
	local leg=$1 begin=$SECONDS result=FAILED
	choose "$leg"
	echo "== OpenSSL $leg"
	# shellcheck disable=SC2086 # a list of words
	if run "$leg" $packages && case $leg in 1.1.1 | 3.5-fips) fleet "$leg" ;; esac; then
		result=passed
	fi
	echo "$leg|$result|$((SECONDS - begin))|$must" >"$work/$leg.row"
}

# begin LEG runs try in the background, unless the version is not available.
begin() {
	choose "$1"
	# shellcheck disable=SC2046 # a list of words
	if scripts/mkssl.sh "$dir" $(sources "$1"); then
		try "$1" >"$work/$1.log" 2>&1 </dev/null &
		pids[$1]=$!
	else
		echo "$1|not available||$must" >"$work/$1.row"
		[ "$must" != 'must pass' ] || status=1
	fi
}

for leg in "$@"; do
	choose "$leg" # reports an unknown leg before anything runs
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'trap - TERM; kill 0' INT TERM # legs in the background ignore the interrupt key
declare -A pids=()
legs=("$@") status=0 begun=0 table='leg|result|seconds|'$'\n'
for i in "${!legs[@]}"; do
	for (( ; begun < ${#legs[@]} && begun <= i + 1; begun++)); do
		begin "${legs[begun]}"
	done
	leg=${legs[i]}
	if [ -n "${pids[$leg]:-}" ]; then
		wait "${pids[$leg]}" || true
		cat "$work/$leg.log"
	fi
	row=$(cat "$work/$leg.row" 2>/dev/null) || row="$leg|FAILED||ended without a result"
	table+=$row$'\n'
	case $row in *'|FAILED|'*) status=1 ;; esac
done
printf '\n%s' "$table" | awk -F'|' '{ printf "%-10s%-16s%-10s%s\n", $1, $2, $3, $4 }'
[ $status = 0 ] || echo 'matrix: a leg that must pass did not.' >&2
exit $status
