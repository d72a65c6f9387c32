# "make help" lists the targets; CONTRIBUTING.md describes them.

GO ?= go
CGO_CC = $(shell $(GO) env CC)

# The number of packages that are tested at the same time is twice the number of
# processors, because many tests wait for another program. A slow machine needs more
# than the 10 minutes that go test allows by default.
TEST = $(GO) test -timeout 40m -p $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))

# 2026.1: the newest that still builds with Go 1.25.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.7.0

.DEFAULT_GOAL := help
.NOTPARALLEL: # the tests use every core, and each heading stays with its output

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 26

deps: ## check that compiler, pkg-config, OpenSSL's headers and curl are there; root on Debian installs them
	@scripts/deps.sh build curl

deps-build:
	@scripts/deps.sh build

demo: deps ## let curl visit examples/clientcert and cmd/sslrelay with every kind of certificate
	@$(GO) run ./internal/demo

PREFIX ?= /usr/local
DESTDIR ?=

build: deps-build ## the relay as bin/sslrelay, and bin/sslfilter-enc
	$(GO) build -o bin/ ./cmd/sslrelay ./cmd/sslfilter-enc

install: build ## the relay with its manual page, systemd unit and an example configuration, and sslfilter-enc, below PREFIX (/usr/local)
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/share/man/man8 $(DESTDIR)$(PREFIX)/share/doc/sslrelay \
		$(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 755 bin/sslrelay $(DESTDIR)$(PREFIX)/sbin/sslrelay
	install -m 644 man/sslrelay.8 $(DESTDIR)$(PREFIX)/share/man/man8/sslrelay.8
	install -m 755 bin/sslfilter-enc $(DESTDIR)$(PREFIX)/bin/sslfilter-enc
	install -m 644 man/sslfilter-enc.1 $(DESTDIR)$(PREFIX)/share/man/man1/sslfilter-enc.1
	install -m 644 cmd/sslrelay/sslrelay.toml $(DESTDIR)$(PREFIX)/share/doc/sslrelay/sslrelay.toml
	sed 's|/usr/local/sbin/|$(PREFIX)/sbin/|' cmd/sslrelay/sslrelay.service >bin/sslrelay.service
	install -m 644 bin/sslrelay.service $(DESTDIR)$(PREFIX)/lib/systemd/system/sslrelay.service

test: deps-build ## all tests
	$(TEST) ./...
	cd examples/grpc && $(GO) test ./...
	cd examples/acme && $(GO) test ./...
	cd adapters/redis && $(GO) test ./...

fresh: ## demo and test, each in a new Debian that has nothing but git, make, ca-certificates and Go
	@scripts/fresh.sh

interop: deps-build ## talk to the TLS implementations that people run, and write docs/interop.md
	$(GO) test -count=1 -timeout 40m ./interop/live -interop-table $(CURDIR)/docs/interop.md

bench: deps-build ## compare this library with C, crypto/tls, another binding and the original; writes docs/performance
	cd bench && $(GO) run . -out ../docs/performance -doc ../docs/performance/measurements.md
	cd bench && $(GO) run . -rounds 201 -slice 20ms -doc ../docs/performance/measurements.md choices

matrix: deps-build ## test with OpenSSL 1.1.1, 3.0, 3.5, 3.6 and 4.0 out of Debian's packages, and with FIPS
	@scripts/matrix.sh

compat: deps-build ## compat/spacemonkeygo with OpenSSL 3.0, 1.1.1 and 3.5: its own tests, and all of the module that it replaces
	@scripts/compat.sh system 1.1.1 3.5

FUZZTIME ?= 5m

fuzz: deps-build ## every fuzz target for FUZZTIME (5m)
	@scripts/fuzz.sh $(FUZZTIME)

soak: deps-build ## 200,000 connections of every kind; the process must not grow during the last third
	$(GO) test -count=1 -timeout 0 -v -run '^TestSoak$$' . -soak 200000

memfault: deps-build ## each allocation of OpenSSL fails, first alone and then together with all later ones; takes an hour
	$(GO) test -count=1 -timeout 0 -v ./internal/memfault -stride 1

cover: deps-build ## coverage of the root package: Go and C
	@scripts/cover.sh

testdata: ## regenerate testdata/pki
	@scripts/deps.sh openssl python
	testdata/mkpki.sh

# The static checks are in a variable, not in a rule "check:" of their own, because make
# begins with the prerequisites of the rule that has a recipe, and they should run first.
STATIC_CHECKS = check-format check-vet check-staticcheck check-tidy check-generate check-layering check-c check-programs
check: deps-build $(STATIC_CHECKS) check-bench check-speed check-fuzz check-race check-asan check-valgrind ## all checks of CI besides the tests
	@echo '== all checks passed'

check-format: ## gofmt has nothing to change
	@echo '== gofmt'
	@files=$$(gofmt -l .); test -z "$$files" || { echo "gofmt would change:" $$files; exit 1; }

check-vet: ## go vet
	@echo '== go vet'
	@$(GO) vet ./...
	@cd bench && $(GO) vet ./...
	@cd examples/grpc && $(GO) vet ./...
	@cd examples/acme && $(GO) vet ./...
	@cd adapters/redis && $(GO) vet ./...
	@cd compat/spacemonkeygo && $(GO) vet ./...

check-staticcheck: ## staticcheck
	@echo '== staticcheck'
	@$(GO) run $(STATICCHECK) ./...
	@cd bench && $(GO) run $(STATICCHECK) ./...
	@cd examples/grpc && $(GO) run $(STATICCHECK) ./...
	@cd examples/acme && $(GO) run $(STATICCHECK) ./...
	@cd adapters/redis && $(GO) run $(STATICCHECK) ./...
	@cd compat/spacemonkeygo && $(GO) run $(STATICCHECK) ./...

check-tidy: ## go mod tidy has nothing to change
	@echo '== go mod tidy'
	@$(GO) mod tidy -diff
	@cd bench && $(GO) mod tidy -diff
	@cd examples/grpc && $(GO) mod tidy -diff
	@cd examples/acme && $(GO) mod tidy -diff
	@cd adapters/redis && $(GO) mod tidy -diff
	@cd compat/spacemonkeygo && $(GO) mod tidy -diff

# The tree may have uncommitted changes, so its state is compared before and after.
check-generate: deps-build ## go generate has nothing to change
	@echo '== go generate'
	@state() { git diff; git ls-files --others --exclude-standard | xargs -r cksum; }; before=$$(state); \
		$(GO) generate ./... && test "$$before" = "$$(state)" || { echo 'go generate changed files:'; git status --short; exit 1; }

check-layering: ## packages import only the layers below them
	@echo '== layering'
	@out=$$($(GO) test -run '^TestLayering' -v . 2>&1) || { echo "$$out"; exit 1; }; \
		echo "$$out" | grep -q -e '--- PASS: TestLayering ' || { echo 'TestLayering did not run'; exit 1; }

check-c: ## the C compiles without a warning and without a deprecated call, also for an OpenSSL without OCSP
	@echo '== $(CGO_CC) -Werror, no deprecated call'
	@for file in cgo_*.c internal/*/*.c; do \
		$(CGO_CC) -std=gnu11 -Wall -Wextra -Werror -DOPENSSL_NO_DEPRECATED -DOPENSSL_API_COMPAT=30000 \
		$$(pkg-config --cflags libssl libcrypto) -c "$$file" -o /dev/null || exit 1; done
	@for file in cgo_*.c; do \
		$(CGO_CC) -std=gnu11 -Wall -Wextra -Werror -DOPENSSL_NO_DEPRECATED -DOPENSSL_API_COMPAT=30000 -DOPENSSL_NO_OCSP \
		$$(pkg-config --cflags libssl libcrypto) -c "$$file" -o /dev/null || exit 1; done
	@for file in compat/spacemonkeygo/cgo_*.c; do \
		case $$file in */cgo_engine.c) flags= ;; *) flags='-DOPENSSL_NO_DEPRECATED -DOPENSSL_API_COMPAT=30000' ;; esac; \
		$(CGO_CC) -std=gnu11 -Wall -Wextra -Werror $$flags $$(pkg-config --cflags libssl libcrypto) -c "$$file" -o /dev/null || exit 1; done

check-programs: ## every program links
	@echo '== programs'
	@dir=$$(mktemp -d) && $(GO) build -o "$$dir/" ./...; status=$$?; rm -rf "$$dir"; exit $$status

check-bench: ## every benchmark runs once
	@echo '== benchmarks, once'
	@for dir in $$(grep -rl --include='*_test.go' '^func Benchmark' . | xargs -n 1 dirname | sort -u); do \
		(cd "$$dir" && $(GO) test -vet=off -short -run '^$$' -bench . -benchtime 1x .) || exit 1; done
	@cd bench && $(GO) test -count=1 .
	@cd bench && $(GO) run . -rounds 1 -slice 1ms -connections 20 -without libp2p/go-openssl \
		-only handshake,resumed,message,burst,setup,crl,calls,memory >/dev/null
	@cd bench && $(GO) run . -rounds 1 -slice 1ms choices >/dev/null

check-speed: ## instructions compared with C, crossings and allocations have not changed; no time is measured
	@echo '== instructions, crossings, allocations'
	@cd bench && $(GO) test -count=1 -v ./guard

check-fuzz: ## every fuzz target with 1000 inputs
	@echo '== fuzz targets'
	@scripts/fuzz.sh 1000x

# The tests of these packages start programs that are built without the race
# detector, compare verdicts or try peers one after the other, let the allocations of one
# goroutine fail, or read source files.
NOT_RACED = /cmd/sslrelay$$|/examples|/interop/certs$$|/interop/oracle$$|/interop/live$$|/internal/memfault$$|/internal/docgen$$

# These tests read source files, so make test is enough for them.
READ_SOURCES = ^(TestDocs|TestLanguage|TestLayering)

check-race: ## the tests in random order; no data race, every unsafe.Pointer is sound, no Go pointer stays in C
	@echo '== race detector with checkptr, cgocheck2'
	@GOEXPERIMENT=cgocheck2 $(TEST) -vet=off -race -shuffle=on -short -skip '$(READ_SOURCES)' $$($(GO) list ./... | grep -Ev '$(NOT_RACED)')

check-asan: ## the tests of engine, connections and failing allocations under the address sanitizer, which also finds leaks
	@echo '== address sanitizer'
	@$(TEST) -vet=off -asan -short -skip '$(READ_SOURCES)' . ./interop/oracle ./interop/certs ./sslnet ./sslhttp ./internal/memfault

# Valgrind finds uninitialized memory in OpenSSL, which the sanitizer does not. It
# does not support RDTSCP, reports Go's signal stack as a mistake, and does not
# know which blocks Go's garbage collector has freed, so it does not check leaks.
VALGRIND = GOMAXPROCS=1 GODEBUG=cpu.rdtscp=off,asyncpreemptoff=1 valgrind -q --error-exitcode=9 --leak-check=no \
	--suppressions=testdata/valgrind.supp
VALGRIND_TESTS = TestClosingDetach|TestClosingReceiveEOF|TestKeyUpdateIsAnsweredAtOnce|TestMemoryBuffersInsideAStruct|TestErrorsLeaveNothingToSend|TestDHE

check-valgrind: ## a part of the engine's tests under valgrind, if it is there
	@echo '== valgrind'
	@command -v valgrind >/dev/null || { echo 'valgrind is missing: scripts/deps.sh valgrind installs it'; test -z "$$CI"; exit; }; \
		dir=$$(mktemp -d); $(GO) test -tags=valgrind -c -o "$$dir/root.test" . && \
		$(VALGRIND) "$$dir/root.test" -test.run '^($(VALGRIND_TESTS))$$'; status=$$?; rm -rf "$$dir"; exit $$status

# qemu looks for files below the folder of the cross compiler's libc first. Tests
# with many connections are left out: they take long and do not depend on the processor.
QEMU = qemu-aarch64 -L /usr/aarch64-linux-gnu
NOT_EMULATED = TestSoak|TestHostileFloods|TestKeyUpdateFloodIsBounded

check-arm64: deps-build ## the root package's tests, cross-built for arm64 and emulated by qemu; not part of check
	@echo '== arm64'
	@scripts/deps.sh arm64
	@scripts/mkssl.sh .openssl arm64
	@. .openssl/arm64/env.sh && SSLFILTER_EMULATOR='$(QEMU)' $(GO) test -count=1 -short -timeout 60m -exec '$(QEMU)' \
		-skip '^($(NOT_EMULATED))$$' .

check-go: deps-build ## build, vet and the root package's tests with the oldest Go of go.mod and the newest release; not part of check
	@scripts/check-go.sh

.PHONY: help deps deps-build build install demo test fresh interop bench matrix compat fuzz soak memfault cover testdata check check-format check-vet check-staticcheck \
	check-tidy check-generate check-layering check-c check-programs check-bench check-speed check-fuzz check-race check-asan check-valgrind check-arm64 check-go
