#!/bin/sh
# Runs the commands of the systemd section of docs/relay.md and verifies the
# result: the unit with systemd-analyze, the configuration as the unit's user, the
# manual page with man.
#
#	scripts/check-install.sh --here
#
# It adds a user and writes to /etc and /usr/local, so run it in a disposable
# system. It needs root, and the programs that "make deps" checks for.
set -eu
cd "$(dirname "$0")/.."

fail() {
	echo "check-install: $*" >&2
	exit 1
}

[ "${1-}" = --here ] || fail 'this changes the system; confirm with --here'
[ "$(id -u)" = 0 ] || fail 'needs root'
[ ! -e /etc/sslrelay ] || fail '/etc/sslrelay exists; this is for a system without sslrelay'

# The indented lines of the section are its commands. systemctl and git clone are
# left out: systemd does not run here, and the source exists already.
commands=$(sed -n '/^## systemd$/,/^## /s/^    //p' docs/relay.md | grep -v -e '^systemctl ' -e '^git clone ')
[ -n "$commands" ] || fail 'no commands in the systemd section of docs/relay.md'
echo "$commands" | while IFS= read -r command; do
	echo "+ $command"
	sh -eu -c "$command" </dev/null || fail "failed: $command"
done

unit=/usr/local/lib/systemd/system/sslrelay.service
user=$(sed -n 's/^User=//p' "$unit")
sed -n 's/^ExecStartPre=//p' "$unit" | while IFS= read -r command; do
	echo "+ as $user: $command"
	# shellcheck disable=SC2086 # the words of a command
	runuser -u "$user" -- $command || fail "$user cannot run: $command"
done

if command -v systemd-analyze >/dev/null; then
	echo "+ systemd-analyze verify $unit"
	said=$(systemd-analyze verify --man=no "$unit" 2>&1) || fail "systemd-analyze: $said"
	[ -z "$said" ] || fail "systemd-analyze: $said"
else
	echo 'check-install: systemd-analyze is missing, the unit was not verified: apt-get install systemd'
fi
if command -v man >/dev/null; then
	man -w 8 sslrelay
	man -w 1 sslfilter-enc
fi
echo 'check-install: passed'
