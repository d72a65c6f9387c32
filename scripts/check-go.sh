#!/bin/sh
# Builds and vets all modules and runs the tests of the root package with the
# oldest Go that go.mod admits, and with the newest release that the module proxy
# has. The go command downloads both.
set -eu
cd "$(dirname "$0")/.."

# newest prints the newest release: the last version of the toolchain module
# without a suffix such as rc1, for this system.
newest() {
	go list -m -versions golang.org/toolchain | tr ' ' '\n' |
		sed -n "s/^v0\.0\.1-go\([0-9]*\.[0-9]*\.[0-9]*\)\.$(go env GOOS)-$(go env GOARCH)\$/\1/p" | sort -V | tail -n 1
}

oldest=$(sed -n 's/^go //p' go.mod)
newest=$(newest)
[ -n "$newest" ] || { echo 'check-go: the module proxy lists no release of Go.' >&2; exit 1; }
for version in "$oldest" "$newest"; do
	export GOTOOLCHAIN="go$version"
	echo "== $(go version)"
	for module in . bench examples/grpc examples/acme adapters/redis compat/spacemonkeygo; do
		(cd "$module" && go build -o /dev/null ./... && go vet ./...)
	done
	go test -count=1 -short .
done
