#!/usr/bin/env bash
# Runs the commands of README.md, each in a new Debian that has nothing but git,
# make, ca-certificates and Go, and in a new clone of HEAD. Uncommitted changes
# are not in it.
#
#	scripts/fresh.sh
#
# The release of Debian, the mirror, the CA file, the proxies, the settings of Go's
# module proxy and Go's build cache are those of this machine. debootstrap makes the
# system in a temporary folder. All mounts are in a mount namespace of their own, and
# all processes in a process namespace of their own, so that nothing is left when the
# script ends or is killed.
#
# Then, in the system of make test, the relay is installed as docs/relay.md says.
# systemd is installed there to verify the unit, and procps, because the unit's
# ExecReload needs /bin/kill.
#
# The tests that were skipped are listed. A test of the root package or of sslnet
# that is skipped because something is missing is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/sbin:/sbin

# cannot SENTENCE ends the script if it cannot run. In CI that is a failure.
cannot() {
	echo "fresh: not run: $1" >&2
	[ -z "${CI:-}" ] || exit 1
	exit 0
}

# mirror CODENAME prints the mirror that this machine's apt uses for it.
mirror() {
	apt-get indextargets --format '$(REPO_URI)' "Codename: $1" | sort -u | head -n 1
}

# proxy prints the proxy that this machine's apt uses, if it has one.
proxy() {
	local value=''
	eval "$(apt-config shell value Acquire::http::Proxy)"
	[ "$value" = DIRECT ] || printf %s "$value"
}

# make_system ROOT makes the bare system, without a clone.
make_system() {
	local root=$1 apt_proxy
	apt_proxy=$(proxy)
	http_proxy=${http_proxy:-$apt_proxy} debootstrap --variant=minbase --include=git,make,ca-certificates "$codename" "$root" "$main_mirror" >"$dir/debootstrap" ||
		{ tail -n 20 "$dir/debootstrap" >&2; echo 'fresh: debootstrap failed.' >&2; return 1; }
	{
		echo "deb $main_mirror $codename main"
		echo "deb $main_mirror $codename-updates main"
		[ -z "$security_mirror" ] || echo "deb $security_mirror $codename-security main"
	} >"$root/etc/apt/sources.list"
	[ -z "$apt_proxy" ] || echo "Acquire::http::Proxy \"$apt_proxy\";" >"$root/etc/apt/apt.conf.d/proxy"
	[ ! -f "$ca" ] || cp -L "$ca" "$root/etc/ssl/certs/ca-certificates.crt"
	cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
	mkdir -p "$root/usr/local/go"
}

# start ROOT mounts what a running system has, and clones HEAD into it.
start() {
	local root=$1
	mount -t proc proc "$root/proc"
	mount --rbind /sys "$root/sys"
	mount --rbind /dev "$root/dev"
	mount --bind "$(go env GOROOT)" "$root/usr/local/go"
	mount -o remount,bind,ro "$root/usr/local/go"
	mkdir -p "$root/root/.cache/go-build"
	mount --bind "$(go env GOCACHE)" "$root/root/.cache/go-build"
	git clone -q --no-local "file://$PWD" "$root/root/sslfilter"
}

# inside ROOT [NAME=VALUE...] COMMAND... runs a command in the clone. Its
# environment has only what a login sets, the proxies and the settings of Go's
# module proxy.
inside() {
	local root=$1 settings=() name
	shift
	for name in GOPROXY GOSUMDB GONOSUMDB GONOPROXY GOPRIVATE GOINSECURE; do
		settings+=("$name=$(go env "$name")")
	done
	for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
		[ -z "${!name:-}" ] || settings+=("$name=${!name}")
	done
	chroot "$root" /usr/bin/env -i HOME=/root USER=root LOGNAME=root SHELL=/bin/bash TERM=dumb \
		PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${settings[@]}" \
		/bin/sh -c 'cd /root/sslfilter && exec "$@"' sh env "$@" </dev/null
}

# skipped reads what "go test -v" printed, and writes a line for each skipped
# test: the package without the module's path, the test, and the reason.
skipped() {
	awk '
		/^=== (RUN|NAME|CONT) / { test = $3; next }
		/^[ \t]+[a-z_0-9]+\.go:[0-9]+: / { text = $0; sub(/^[ \t]+[a-z_0-9]+\.go:[0-9]+: /, "", text); reason[test] = text; next }
		/^[ \t]*--- SKIP: / { names[++n] = $3; next }
		/^(ok|FAIL)[ \t]+[a-z]/ {
			package = $2
			if (!sub(/^github.com\/[^\/]*\/sslfilter\//, "", package)) package = "."
			for (i = 1; i <= n; i++) printf "%s\t%s\t%s\n", package, names[i], reason[names[i]]
			n = 0
			split("", reason)
		}'
}

# failed reads the same output, and writes the output of failed tests and all output that
# belongs to no test.
failed() {
	awk '
		function flush(i) {
			for (i = 1; i <= n; i++) if (owner[i] in bad || lines[i] !~ /^    / || lines[i] ~ /--- FAIL: /) print lines[i]
			n = 0
			split("", bad)
			test = ""
		}
		/^=== / { test = $3; next }
		/^[ \t]*--- (PASS|SKIP): / { next }
		{ lines[++n] = $0; owner[n] = test }
		/^[ \t]*--- FAIL: / { bad[$3] }
		/^FAIL[ \t]/ { flush() }
		/^(ok|\?)[ \t]/ { n = 0; split("", bad); test = "" }
		END { flush() }'
}

# asked are the reasons of skipped tests that need a setting and not a program.
asked='^(a configuration with the FIPS provider is missing|set [A-Z_]+=1 to run it)'

# try does it all, in namespaces of its own.
try() {
	local begin=$SECONDS status=0
	mount --make-rprivate /
	make_system "$dir/demo"
	cp -a "$dir/demo" "$dir/test"
	echo "fresh: Debian $(cat "$dir/demo/etc/debian_version") with $(go env GOVERSION), made in $((SECONDS - begin)) s"

	begin=$SECONDS
	start "$dir/demo"
	echo 'fresh: make demo'
	inside "$dir/demo" make demo
	echo "fresh: make demo, $((SECONDS - begin)) s"

	begin=$SECONDS
	start "$dir/test"
	echo 'fresh: make test'
	# -v changes only the output, and -count=1 lets every test run again.
	inside "$dir/test" GOFLAGS='-v -count=1' make test >"$dir/log" 2>&1 || status=$?
	grep -E '^(deps: |(ok|FAIL|\?)[[:space:]])' "$dir/log" || true
	if [ "$status" != 0 ]; then
		failed <"$dir/log"
		echo "fresh: make test failed with status $status" >&2
		return 1
	fi
	grep -cE '^ok[[:space:]]+github.com/[^/]+/sslfilter(/sslnet)?[[:space:]]' "$dir/log" | grep -qx 2 ||
		{ echo 'fresh: the tests of the root package and of sslnet did not run.' >&2; return 1; }
	echo "fresh: make test, $((SECONDS - begin)) s"
	skipped <"$dir/log" >"$dir/skipped"
	echo "fresh: skipped, $(wc -l <"$dir/skipped") tests:"
	sort "$dir/skipped" | sed 's/^/    /'
	if awk -F '\t' -v asked="$asked" '($1 == "." || $1 == "sslnet") && $3 !~ asked' "$dir/skipped" | grep .; then
		echo 'fresh: these tests of the root package and of sslnet need nothing that a bare system lacks, and were skipped.' >&2
		return 1
	fi

	begin=$SECONDS
	echo 'fresh: scripts/check-install.sh'
	inside "$dir/test" DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends systemd procps man-db >"$dir/log" ||
		{ tail -n 20 "$dir/log" >&2; echo 'fresh: systemd could not be installed.' >&2; return 1; }
	inside "$dir/test" scripts/check-install.sh --here
	echo "fresh: scripts/check-install.sh, $((SECONDS - begin)) s"
}

if [ "${1:-}" = --inside ]; then
	dir=$2
	codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
	main_mirror=$(mirror "$codename") security_mirror=$(mirror "$codename-security")
	ca=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
	try
	exit
fi

[ "$(id -u)" = 0 ] || cannot 'making a bare Debian needs root.'
for tool in apt-get unshare; do
	command -v $tool >/dev/null || cannot "$tool is missing; this needs a Debian system."
done
scripts/deps.sh debootstrap || cannot 'debootstrap is missing.'
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
[ -n "$codename" ] && [ -e "/usr/share/debootstrap/scripts/$codename" ] || cannot 'debootstrap does not know the release of this system.'
[ -n "$(mirror "$codename")" ] || apt-get -qq update
[ -n "$(mirror "$codename")" ] || cannot 'apt knows no mirror of this release.'
dir=$(mktemp -d)
child=''
# The namespaces end with the first process in them, and with them all mounts.
trap '[ -z "$child" ] || kill -KILL "$child" 2>/dev/null; wait; rm -rf --one-file-system "$dir"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
unshare --mount --pid --fork --kill-child true || cannot 'this system does not allow new namespaces.'
unshare --mount --pid --fork --kill-child "$0" --inside "$dir" &
child=$!
status=0
wait "$child" || status=$?
child=''
exit "$status"
