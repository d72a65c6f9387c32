#!/bin/sh
# Checks that the programs and headers named by the arguments are installed.
# Root on a Debian-like system installs missing ones; otherwise a message says
# what to install, and the exit status is 1.
#
#	scripts/deps.sh build curl perl ...
#
#	build     C compiler, C headers, pkg-config, headers of OpenSSL 1.1.1 or later
#	curl      the client of make demo and of the tests of examples/clientcert
#	openssl   the openssl command
#	gnutls    gnutls-cli and gnutls-serv
#	perl      the original: POE::Filter::SSL
#	peers     the programs that interop/live talks to: nginx, HAProxy, stunnel, NSS,
#	          Java, Node, Python, sslscan, testssl.sh and Chromium
#	proxies   tinyproxy and microsocks, the proxies of the tests of sslhttp
#	ftp       vsftpd and proftpd, for the test of examples/ftpsclient. Debian installs
#	          only one FTP server, so vsftpd goes to /usr/local/sbin
#	pebble    the ACME CA of the tests of examples/acme
#	redis     redis-server, for the tests of adapters/redis
#	tshark    tshark, which decrypts a recorded connection with a key log
#	mail      dovecot's imapd and pop3d, and mbsync
#	python3   Python and aiohttp, whose web servers are backends in tests of the relay
#	mandoc    the linter of manual pages
#	python    Python with the cryptography module, for make testdata and for a peer of
#	          sealed streams
#	valgrind  valgrind
#	debootstrap
#	          debootstrap, which makes the bare Debian of make fresh
#	arm64     a compiler for arm64, and qemu's emulator of it, for make check-arm64
set -u

missing='' # in words
packages='' # of Debian

# lacks WORDS PACKAGE... notes what is missing.
lacks() {
	missing="${missing:+$missing, }$1"
	shift
	packages="${packages:+$packages }$*"
}

have() { command -v "$1" >/dev/null 2>&1; }

includes() {
	printf '#include <%s>\n' "$1" | "$cc" -E - >/dev/null 2>&1
}

look() {
	missing='' packages=''
	for want in "$@"; do
		case $want in
		build)
			cc=$(go env CC 2>/dev/null)
			have "${cc:=gcc}" || lacks "a C compiler ($cc)" gcc libc6-dev
			if have "$cc" && ! includes stdlib.h; then lacks 'the C headers' libc6-dev; fi
			if ! have pkg-config; then
				lacks 'pkg-config and the headers of OpenSSL' pkg-config libssl-dev
			elif ! pkg-config --exists 'libssl >= 1.1.1' 'libcrypto >= 1.1.1'; then
				lacks 'the headers of OpenSSL 1.1.1 or later' libssl-dev
			fi
			;;
		curl) have curl || lacks curl curl ;;
		openssl) have openssl || lacks 'the openssl command' openssl ;;
		gnutls) have gnutls-cli && have gnutls-serv || lacks 'gnutls-cli and gnutls-serv' gnutls-bin ;;
		perl)
			perl -MPOE -MPOE::Filter::SSL -MNet::SSLeay -e 1 >/dev/null 2>&1 ||
				lacks 'the Perl original' libpoe-filter-ssl-perl libpoe-perl libnet-ssleay-perl
			;;
		peers)
			for pair in nginx:nginx-light haproxy:haproxy stunnel4:stunnel4 selfserv:libnss3-tools javac:default-jdk-headless \
				node:nodejs sslscan:sslscan testssl:testssl.sh chromium:chromium; do
				have "${pair%%:*}" || [ -x "/usr/sbin/${pair%%:*}" ] || lacks "${pair%%:*}" "${pair#*:}"
			done
			[ -x /usr/bin/python3 ] || lacks python3 python3
			/usr/bin/python3 -c 'import ssl' 2>/dev/null || lacks "Python's ssl module" python3
			;;
		proxies)
			for proxy in tinyproxy microsocks; do have $proxy || lacks $proxy $proxy; done
			;;
		mail)
			{ have dovecot || [ -x /usr/sbin/dovecot ]; } && [ -x /usr/lib/dovecot/imap ] && [ -x /usr/lib/dovecot/pop3 ] ||
				lacks 'dovecot with IMAP and POP3' dovecot-imapd dovecot-pop3d
			have mbsync || lacks mbsync isync
			;;
		python3)
			python3 -c 'import http.server' >/dev/null 2>&1 || lacks "Python's http.server module" python3
			/usr/bin/python3 -c 'import aiohttp' >/dev/null 2>&1 || lacks "Python's aiohttp" python3 python3-aiohttp
			;;
		mandoc) have mandoc || lacks mandoc mandoc ;;
		ftp)
			if { [ -x /usr/sbin/proftpd ] || have proftpd; } && [ -f /usr/lib/proftpd/mod_tls.so ]; then
				[ -x /usr/sbin/vsftpd ] || have vsftpd || lacks vsftpd libwrap0
			else # its package removes that of vsftpd
				lacks 'proftpd with TLS' proftpd-core proftpd-mod-crypto
				[ -x /usr/local/sbin/vsftpd ] || lacks vsftpd libwrap0
			fi
			;;
		pebble) have pebble && have pebble-challtestsrv || lacks pebble pebble ;;
		redis) have redis-server || lacks redis-server redis-server ;;
		tshark) have tshark || lacks tshark tshark ;;
		python)
			python3 -c 'import cryptography' >/dev/null 2>&1 && /usr/bin/python3 -c 'import cryptography' >/dev/null 2>&1 ||
				lacks "Python's cryptography module" python3-cryptography
			;;
		valgrind) have valgrind || lacks valgrind valgrind ;;
		debootstrap) have debootstrap || [ -x /usr/sbin/debootstrap ] || lacks debootstrap debootstrap ;;
		arm64)
			have aarch64-linux-gnu-gcc || lacks 'a C compiler for arm64' gcc-aarch64-linux-gnu libc6-dev-arm64-cross
			have qemu-aarch64 || have qemu-aarch64-static || lacks "qemu's emulator of arm64" qemu-user
			;;
		*)
			echo "deps: \"$want\" is not one of build, curl, openssl, gnutls, perl, peers, proxies, ftp, mail, python3, mandoc, pebble, redis, tshark, python, valgrind, debootstrap, arm64." >&2
			exit 2
			;;
		esac
	done
}

if ! have go; then
	echo 'deps: Go is missing: install Go 1.25 or later from https://go.dev/dl/.' >&2
	exit 1
fi
look "$@"
[ -n "$missing" ] || exit 0
if ! have apt-get; then
	echo "deps: missing: $missing; install what your system calls $packages." >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	echo "deps: missing: $missing; run as root: apt-get install --no-install-recommends $packages" >&2
	exit 1
fi
echo "deps: missing: $missing; installing $packages"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of words
apt-get -qq update && apt-get -qq install -y --no-install-recommends $packages </dev/null || {
	echo "deps: apt-get could not install $packages." >&2
	exit 1
}
case $packages in
*libwrap0*) # of vsftpd, which excludes proftpd as a package
	dir=$(mktemp -d)
	(cd "$dir" && apt-get -qq download vsftpd && dpkg -x vsftpd_*.deb . && install usr/sbin/vsftpd /usr/local/sbin/)
	rm -rf "$dir"
	;;
esac
look "$@"
if [ -n "$missing" ]; then
	echo "deps: still missing after apt-get install: $missing." >&2
	exit 1
fi
