#!/usr/bin/env bash
# Builds and tests with each OpenSSL version that is given, in a folder of its own
# (scripts/mkssl.sh), and prints a table.
#
#	scripts/matrix.sh [-d DIR] [LEG...]
#
# A leg is a version, or a version and "fips":
#
#	1.1.1 3.0 3.5      must pass, all tests
#	3.0-fips           must pass, without the tests of programs: the system's 3.0 with
#	                   3.5's FIPS module
#	3.5-fips           must pass, without the tests of programs: 3.5 with its own
#	                   FIPS module
#	3.6 4.0            must pass if Debian's changing suites have them: the engine, its
#	                   network layers, failing allocations and the recorded cases
#
# 1.1.1 and 3.5-fips also run the tests of adapters/redis that depend most on OpenSSL.
#
# By default all legs run. 3.0 is left out if the system's own OpenSSL is a 3.0,
# since all other tests use it.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=.openssl
if [ "${1:-}" = -d ]; then
	dir=$2
	shift 2
fi
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

# run LEG PACKAGE... tests these packages; go vet has its own step. Many tests wait for another
# program, so twice as many packages as there are processors are tested at a time.
run() (
	enter "$1"
	shift
	go test -timeout 40m -p $((2 * $(nproc))) -count=1 -vet=off -short "$@"
)

# fleet LEG tests ticket keys and sessions of several servers.
fleet() (
	enter "$1"
	cd adapters/redis
	go test -count=1 -vet=off -run '^(TestKeeperRetain|TestClientTLS|TestFleetClientCertificates|TestFleetRotationUnderLoad)$' .
)

# The packages that use OpenSSL themselves, without those that test a program.
library='. ./filter ./wheel ./sslnet ./sslhttp ./sslsession ./sslstaple ./cmd/sslfilter-enc ./internal/relay ./interop/live ./interop/oracle'
status=0 table='leg|result|seconds|'$'\n'
for leg in "$@"; do
	case $leg in
	1.1.1 | 3.0 | 3.5) must='must pass' packages=./... ;;
	3.0-fips | 3.5-fips) must='must pass' packages=$library ;;
	3.6 | 4.0) must='must pass if available' packages='. ./filter ./wheel ./sslnet ./sslhttp ./sslsession ./sslstaple ./internal/memfault ./interop/oracle' ;;
	*)
		echo "matrix: \"$leg\" is not one of 1.1.1, 3.0, 3.5, 3.0-fips, 3.5-fips, 3.6, 4.0." >&2
		exit 2
		;;
	esac
	echo "== OpenSSL $leg"
	begin=$SECONDS
	# shellcheck disable=SC2046,SC2086 # lists of words
	if ! scripts/mkssl.sh "$dir" $(sources "$leg"); then
		result='not available'
		[ "$must" != 'must pass' ] || status=1
	elif run "$leg" $packages && case $leg in 1.1.1 | 3.5-fips) fleet "$leg" ;; esac; then
		result=passed
	else
		result=FAILED status=1
	fi
	table+="$leg|$result|$((SECONDS - begin))|$must"$'\n'
done
printf '\n%s' "$table" | awk -F'|' '{ printf "%-10s%-16s%-10s%s\n", $1, $2, $3, $4 }'
[ $status = 0 ] || echo 'matrix: a leg that must pass did not.' >&2
exit $status
