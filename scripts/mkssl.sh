#!/usr/bin/env bash
# Unpacks other versions of OpenSSL from Debian's packages, side by side, without
# installing them.
#
#	scripts/mkssl.sh DIR VERSION...     VERSION is 1.1.1, 3.0, 3.5, 3.6, 4.0 or
#	                                    arm64: this system's OpenSSL, for arm64
#
# DIR/VERSION gets
#
#	env.sh     to be sourced before go build or go test
#	openssl    that version's command line; not for arm64
#	fips.cnf   if the version has the FIPS provider: a configuration for
#	           OPENSSL_CONF, with default_properties fips=yes
#	fips-3.0.cnf
#	           the same for the system's OpenSSL 3.0, with OPENSSL_MODULES set to
#	           the folder of this version's module, modules
#
# 3.5 and later come with their own libc, since they need a newer one than the
# system's. Versions that exist already are kept. If apt knows no mirror yet,
# root runs apt-get update.
set -euo pipefail

keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# mirror CODENAME prints the mirror that this machine uses for it.
mirror() {
	apt-get indextargets --format '$(REPO_URI)' "Codename: $1" | sort -u | head -n 1
}

# fetch INTO PACKAGE... downloads packages with the private apt and unpacks them.
fetch() {
	local into=$1
	shift
	rm -rf "$apt/debs"
	mkdir -p "$apt/debs" "$into"
	(cd "$apt/debs" && apt-get -qq -c "$apt/apt.conf" download "$@")
	for deb in "$apt"/debs/*.deb; do dpkg -x "$deb" "$into"; done
}

# private_apt SUITE [ARCHITECTURE] sets up an apt of its own that knows this suite
# alone.
private_apt() {
	mkdir -p "$apt"/lists/partial "$apt"/cache/archives/partial "$apt"/parts
	: >"$apt/status"
	{
		echo "deb [signed-by=$keyring] $main_mirror $1 main"
		case $1 in
		experimental) echo "deb [signed-by=$keyring] $main_mirror sid main" ;;
		forky) ;;
		*) echo "deb [signed-by=$keyring] $security_mirror $1-security main" ;;
		esac
	} >"$apt/sources.list"
	cat >"$apt/apt.conf" <<-CONF
		Dir::State "$apt"; Dir::State::lists "$apt/lists"; Dir::State::status "$apt/status"; Dir::Cache "$apt/cache";
		Dir::Etc::sourcelist "$apt/sources.list"; Dir::Etc::sourceparts "$apt/parts";
		Dir::Etc::preferences "/dev/null"; Dir::Etc::preferencesparts "$apt/parts";
		Acquire::Languages "none"; Acquire::Check-Valid-Until "false";
		${2:+APT::Architecture "$2"; APT::Architectures "$2";}
		Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false"; APT::Sandbox::User "root";
	CONF
	apt-get -qq -c "$apt/apt.conf" update
}

# make_version VERSION fills $root.
make_version() {
	local suite library from='' libc_from='' own_libc='' packages lib libc link='' start full name
	case $1 in
	1.1.1) suite=bullseye library=libssl1.1 ;;
	3.0) suite=bookworm library=libssl3 ;;
	3.5) suite=trixie library=libssl3t64 own_libc=yes ;;
	3.6) suite=forky library=libssl3t64 own_libc=yes ;;
	4.0) suite=experimental library=libssl4 own_libc=yes from=/experimental libc_from=/sid ;;
	esac
	private_apt "$suite"
	packages="libssl-dev$from $library$from openssl$from"
	[ -z "$own_libc" ] || packages="$packages openssl-provider-fips$from openssl-provider-legacy$from"
	# shellcheck disable=SC2086 # a list of words
	fetch "$root/ssl" $packages
	lib=$root/ssl/usr/lib/$triplet
	start="env LD_LIBRARY_PATH=$lib"
	if [ -n "$own_libc" ]; then
		fetch "$root/libc" "libc6$libc_from" "zlib1g$libc_from" "libzstd1$libc_from"
		libc=$root/libc/usr/lib/$triplet
		loader=$(find "$libc" -name 'ld-linux-*.so.*' | head -n 1)
		link=" -Wl,--allow-shlib-undefined -Wl,-rpath,$libc -Wl,--dynamic-linker=$loader"
		start="$loader --library-path $lib:$libc"
	fi
	cat >"$root/openssl" <<-SH
		#!/bin/sh
		export OPENSSL_MODULES=\${OPENSSL_MODULES:-$lib/ossl-modules} OPENSSL_CONF=\${OPENSSL_CONF:-$root/ssl/etc/ssl/openssl.cnf}
		exec $start $root/ssl/usr/bin/openssl "\$@"
	SH
	chmod +x "$root/openssl"
	ln -s "$lib/ossl-modules" "$root/modules"
	[ ! -f "$lib/ossl-modules/fips.so" ] || make_fips "$lib"
	# The flags are in pkg-config files, which this module reads and the standard
	# library does not. In CGO_CFLAGS they would make Go compile net and crypto/tls
	# again for each version.
	full=$("$root/openssl" version | cut -d" " -f2)
	pkgconfig "$full" "$triplet" "$link"
	# Written last: its existence marks the version as complete. Go's build cache
	# ignores changes of headers and pkg-config files, so a flag without effect for
	# this module contains the version: a folder for imports that does not exist.
	cat >"$root/env.sh" <<-SH
		export PKG_CONFIG_LIBDIR=$root/pkgconfig CGO_LDFLAGS_ALLOW=-Wl,--dynamic-linker=.*
		export GOFLAGS="\${GOFLAGS:-} -gcflags=github.com/seed-014b8713/sslfilter/...=-I=$root/openssl-$full"
		export OPENSSL_MODULES=$lib/ossl-modules OPENSSL_CONF=$root/ssl/etc/ssl/openssl.cnf
	SH
	rm -rf "$apt"
}

# pkgconfig VERSION TRIPLET LINK writes the files that pkg-config reads.
pkgconfig() {
	local name lib=$root/ssl/usr/lib/$2
	mkdir -p "$root/pkgconfig"
	for name in libssl libcrypto; do
		printf '%s\n' "Name: $name" "Description: OpenSSL $1" "Version: $1" \
			"Cflags: -I$root/ssl/usr/include/$2 -I$root/ssl/usr/include" \
			"Libs: -L$lib -l${name#lib} -Wl,-rpath,$lib$3" >"$root/pkgconfig/$name.pc"
	done
}

# make_arm64 fills $root with this system's version for another processor. Its
# libc is that of the cross compiler.
make_arm64() {
	local other=aarch64-linux-gnu library full
	private_apt "$codename" arm64
	library=$(apt-cache -c "$apt/apt.conf" depends libssl-dev | sed -n 's/^ *Depends: \(libssl[0-9].*\)/\1/p' | head -n 1)
	fetch "$root/ssl" libssl-dev "$library" openssl
	full=$(sed -n 's/^Version: //p' "$root/ssl/usr/lib/$other/pkgconfig/libcrypto.pc")
	pkgconfig "$full" "$other" ''
	cat >"$root/env.sh" <<-SH
		export GOOS=linux GOARCH=arm64 CGO_ENABLED=1 CC=$other-gcc PKG_CONFIG_LIBDIR=$root/pkgconfig
		export GOFLAGS="\${GOFLAGS:-} -gcflags=github.com/seed-014b8713/sslfilter/...=-I=$root/openssl-$full"
		export OPENSSL_CONF=$root/ssl/etc/ssl/openssl.cnf
	SH
	rm -rf "$apt"
}

# make_fips LIB writes configurations for the FIPS provider, and tries them.
make_fips() {
	fips_config "$root/openssl" "$1" "$root/fipsmodule.cnf" "$root/fips.cnf"
	# The module of 3.5 also loads into the system's 3.0, which ignores some of its
	# parameters. Later modules need a newer libc.
	case ${root##*/}/$(openssl version 2>/dev/null) in
	3.5/'OpenSSL 3.0.'*) OPENSSL_MODULES=$1/ossl-modules fips_config openssl "$1" "$root/fipsmodule-3.0.cnf" "$root/fips-3.0.cnf" ;;
	esac
}

# fips_config OPENSSL LIB MODULE_CNF CNF writes both files with this program.
fips_config() {
	OPENSSL_CONF=/dev/null "$1" fipsinstall -quiet -out "$3" -module "$2/ossl-modules/fips.so"
	cat >"$4" <<-CONF
		config_diagnostics = 1
		openssl_conf = openssl_init
		.include $3
		[openssl_init]
		providers = providers
		alg_section = algorithms
		[providers]
		fips = fips_sect
		base = base
		[base]
		activate = 1
		[algorithms]
		default_properties = fips=yes
	CONF
	if OPENSSL_CONF=$4 "$1" dgst -md5 /dev/null >/dev/null 2>&1 || ! OPENSSL_CONF=$4 "$1" dgst -sha256 /dev/null >/dev/null; then
		echo "mkssl: under $4 MD5 works or SHA-256 does not, so FIPS is not in force." >&2
		exit 1
	fi
}

[ $# -ge 2 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift
for version in "$@"; do
	case $version in
	1.1.1 | 3.0 | 3.5 | 3.6 | 4.0 | arm64) ;;
	*) echo "mkssl: \"$version\" is not one of 1.1.1, 3.0, 3.5, 3.6, 4.0, arm64." >&2; exit 2 ;;
	esac
done
for tool in apt-get dpkg gcc; do
	command -v $tool >/dev/null || { echo "mkssl: $tool is missing; this needs a Debian system with a C compiler." >&2; exit 1; }
done
triplet=$(gcc -print-multiarch)
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
main_mirror=$(mirror "$codename") security_mirror=$(mirror "$codename-security")
if [ -z "$main_mirror" ] && [ "$(id -u)" = 0 ]; then
	apt-get -qq update
	main_mirror=$(mirror "$codename") security_mirror=$(mirror "$codename-security")
fi
if [ -z "$main_mirror" ] || [ -z "$security_mirror" ]; then
	echo 'mkssl: apt knows no mirror; run apt-get update first.' >&2
	exit 1
fi
for version in "$@"; do
	root=$dir/$version apt=$dir/$version/apt
	if [ ! -f "$root/env.sh" ]; then
		rm -rf "$root"
		mkdir -p "$root"
		if [ "$version" = arm64 ]; then make_arm64; else make_version "$version"; fi
	fi
	if [ "$version" = arm64 ]; then
		echo "mkssl: arm64 is OpenSSL $(sed -n 's/^Version: //p' "$root/pkgconfig/libcrypto.pc")"
	else
		echo "mkssl: $version is $("$root/openssl" version)"
	fi
done
