# safe-run. `make` prints what there is to make.
#
# Everything lands in build/. A fresh Debian needs only Go and apt; the rest
# is installed by `make deps`, which demo and test run by themselves.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory
.DEFAULT_GOAL := help

PREFIX  ?= /usr/local
DESTDIR ?=
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GO      ?= go

# A clone made by another user makes git refuse to answer; the version comes from VERSION.
export GOFLAGS := -buildvcs=false $(GOFLAGS)
LDFLAGS := -s -w -X main.version=$(VERSION)
STATIC  := CGO_ENABLED=0 $(GO) build -trimpath

ENGINE := build/engine
# Left out: Kubernetes' interface, and snapshotters that are not used here.
CONTAINERD_TAGS := no_cri no_btrfs no_zfs no_devmapper no_aufs

.PHONY: help build build-faults engine cni cri deps images servers probe demo test threats test-vm bench fuzz mutation lint vuln sbom reproducible docs install uninstall packages deb rpm tarball clean FORCE

help: ## this text
	@echo "safe-run: docker run, least privilege by default"; echo
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

build: ## build/safe-run, static
	@mkdir -p build
	@$(STATIC) -ldflags '$(LDFLAGS)' -o build/safe-run ./cmd/safe-run
	@mkdir -p $(ENGINE)
	@$(STATIC) -ldflags '$(LDFLAGS)' -o $(ENGINE)/safe-run-compose ./cmd/safe-run-compose
	@# Until it is on disk, its pages in memory count as private to who runs it.
	@sync build/safe-run

# The same with points of failure built in, for the tests of cleaning up. It
# lies beside build/, where it finds the same engine.
build-faults:
	@mkdir -p build
	@$(STATIC) -tags faults -ldflags '$(LDFLAGS)' -o build/safe-run-faults ./cmd/safe-run

engine: $(ENGINE)/.built ## build/engine: containerd, its shim, ctr, runc, tini
$(ENGINE)/.built: engine/go.mod engine/go.sum | deps
	@echo "building the engine (containerd, shim, ctr, runc): some minutes, once" >&2
	@mkdir -p $(ENGINE)
	@cd engine && for tool in containerd containerd-shim-runc-v2 ctr; do \
		CGO_ENABLED=0 $(GO) build -trimpath -tags '$(CONTAINERD_TAGS)' -ldflags '-s -w' \
			-o ../$(ENGINE)/.$$tool github.com/containerd/containerd/v2/cmd/$$tool; \
		mv ../$(ENGINE)/.$$tool ../$(ENGINE)/$$tool; \
	done
	@# runc needs C for the code that runs before Go's runtime in a new
	@# namespace, and libseccomp. Static: it must start on hosts without either.
	@cd engine && CGO_ENABLED=1 $(GO) build -trimpath -tags 'seccomp netgo osusergo' \
		-ldflags '-s -w -extldflags -static' -o ../$(ENGINE)/.runc github.com/opencontainers/runc
	@mv $(ENGINE)/.runc $(ENGINE)/runc
	@install -m 0755 /usr/bin/tini-static $(ENGINE)/tini
	@touch $@

# What takes systemd's sockets inside a container is of this module, unlike what it lies beside.
build engine: $(ENGINE)/safe-run-activate
$(ENGINE)/safe-run-activate: FORCE
	@mkdir -p $(@D)
	@$(STATIC) -ldflags '-s -w' -o $@ ./cmd/safe-run-activate

# Plugins of other networks than safe-run's own, for the tests; a site has its own.
CNI_PLUGINS := main/bridge main/ptp ipam/host-local meta/portmap
cni: $(ENGINE)/cni/.built ## build/engine/cni: some CNI plugins, for the tests
$(ENGINE)/cni/.built: engine/go.mod engine/go.sum
	@mkdir -p $(@D)
	@cd engine && for plugin in $(CNI_PLUGINS); do \
		$(STATIC) -ldflags '-s -w' -o ../$(@D)/ github.com/containernetworking/plugins/plugins/$$plugin; \
	done
	@touch $@

# containerd as a node of Kubernetes has it, for the tests of what is exported
# to there; the rest of its engine is the same.
cri: build/cri/.built ## build/cri: containerd with the CRI plugin, for the tests
build/cri/.built: engine/go.mod engine/go.sum
	@mkdir -p $(@D)
	@cd engine && CGO_ENABLED=0 $(GO) build -trimpath -tags '$(filter-out no_cri,$(CONTAINERD_TAGS))' -ldflags '-s -w' \
		-o ../$(@D)/containerd github.com/containerd/containerd/v2/cmd/containerd
	@touch $@

# The file or program each Debian package is wanted for.
DEPS := gcc=/usr/bin/gcc libc6-dev=/usr/include/stdlib.h pkg-config=/usr/bin/pkg-config \
	libseccomp-dev=/usr/include/seccomp.h busybox-static=/bin/busybox tini=/usr/bin/tini-static \
	ca-certificates=/etc/ssl/certs/ca-certificates.crt bsdutils=/usr/bin/script apparmor=/sbin/apparmor_parser \
	iproute2=/bin/ip nftables=/usr/sbin/nft iptables=/usr/sbin/iptables curl=/usr/bin/curl \
	wrk=/usr/bin/wrk redis-tools=/usr/bin/redis-benchmark

deps: ## install what is missing of the Debian packages needed
	@command -v $(GO) >/dev/null || { \
		echo "Go is missing. Needed: Go 1.21 or newer (it fetches the version named in go.mod by itself):" >&2; \
		echo "  https://go.dev/dl, or on Debian 13 and newer: apt-get install golang-go" >&2; exit 1; }
	@missing=; for d in $(DEPS); do [[ -e $${d#*=} ]] || missing+=" $${d%%=*}"; done; \
	if [[ $$missing ]]; then \
		[[ $$(id -u) = 0 ]] || { echo "missing packages, install them as root:$$missing" >&2; exit 1; }; \
		command -v apt-get >/dev/null || { echo "missing, and no apt-get to install them:$$missing" >&2; exit 1; }; \
		echo "installing$$missing" >&2; \
		export DEBIAN_FRONTEND=noninteractive; \
		log=$$(mktemp); \
		{ apt-get update -qq && apt-get install -qq -y --no-install-recommends $$missing; } >$$log 2>&1 \
			|| { cat $$log >&2; exit 1; }; \
		rm -f $$log; \
	fi

probe: ## build/probe and build/probe32: the program that tries to escape
	@mkdir -p build
	@$(STATIC) -ldflags '-s -w' -o build/probe ./tests/probe
	@GOARCH=386 $(STATIC) -ldflags '-s -w' -o build/probe32 ./tests/probe

images: build/images/busybox.tar build/images/probe.tar ## build/images: the images of the demo and the tests

build/mkimage: FORCE
	@mkdir -p build
	@$(STATIC) -o $@ ./tests/imagekit/cmd/mkimage

build/images/busybox.tar: build/mkimage | deps
	@mkdir -p $(@D)
	@build/mkimage -o $@ busybox

build/images/probe.tar: build/mkimage probe
	@mkdir -p $(@D)
	@build/mkimage -o $@ -name safe-run-probe:latest probe build/probe build/probe32

SERVERS := nginx redis apache node python tcpdump chrony postgres mariadb haproxy memcached
servers: $(SERVERS:%=build/images/%.tar) ## build/images: nginx, redis and others out of this Debian's packages

# Downloaded once; `make clean` and this again to have newer packages.
$(SERVERS:%=build/images/%.tar): $(wildcard tests/imagekit/*.go) | deps build/mkimage
	@mkdir -p $(@D)
	@build/mkimage -o $@ $(basename $(@F)) -debs build/debs

demo: deps build engine images ## a hardened container, and the refusals, on this machine (root)
	@tests/demo.sh

test: deps build build-faults engine cni cri build/nfpm images servers ## unit tests, fuzz seeds, and everything against a real containerd (root)
	@[[ $$(id -u) = 0 ]] || { echo "make test needs root: it runs containers" >&2; exit 1; }
	@$(GO) test -timeout 40m ./...

# What asks the kernel for much is tested in it, compiled here.
VM_TESTED := ./tests/e2e ./tests/threats ./tests/profiles ./learn ./network ./internal/netfilter ./internal/systemd ./cmd/safe-run-activate
test-vm: DEPS += qemu-system-x86=/usr/bin/qemu-system-x86_64 mmdebstrap=/usr/bin/mmdebstrap e2fsprogs=/sbin/mke2fs cpio=/usr/bin/cpio \
	xz-utils=/usr/bin/xz debian-archive-keyring=/usr/share/keyrings/debian-archive-keyring.gpg
test-vm: deps build build-faults engine deb images build/images/nginx.tar build/images/redis.tar probe ## safe-run and its network inside a Debian with systemd, cgroup v2 and AppArmor, in qemu (root)
	@rm -rf build/vm-tests && mkdir -p build/vm-tests
	@CGO_ENABLED=0 $(GO) test -c -ldflags '-s -w' -tags guest -o build/vm-tests/ $(VM_TESTED)
	@tests/vm/test.sh

threats: deps build build-faults engine images probe ## tries every known way out of a container, and writes what came of it into docs/threats.md (root)
	@SAFE_RUN_THREATS_RESULTS=$$PWD/tests/threats/results $(GO) test -count=1 ./tests/threats
	@$(GO) run ./tests/threats/page

# docker to compare with, unpacked and not installed. Where the packages cannot be had, the tables say what is missing.
build/docker:
	@mkdir -p $@/partial
	@command -v dockerd >/dev/null || { apt-get -qq -y --no-install-recommends --download-only -o Dir::Cache::archives=$$PWD/$@ \
		-o APT::Sandbox::User=root install docker.io $$(apt-cache --names-only search '^docker-cli$$' | cut -d' ' -f1) \
		&& for d in $@/*.deb; do dpkg-deb -x $$d $@; done; } >&2 || true

BENCH_RUNS ?= 20
bench: deps build engine images servers build/docker ## the tables of docs/performance.md, measured on this machine (root)
	@$(GO) run ./tests/bench -runs $(BENCH_RUNS)

FUZZ      ?= .
FUZZ_TIME ?= 10m
FUZZ_JOBS ?= 2
fuzz: ## every fuzz target that matches FUZZ, FUZZ_TIME (10m) each, FUZZ_JOBS (2) at a time
	@$(GO) run ./tests/fuzz -time $(FUZZ_TIME) -jobs $(FUZZ_JOBS) -match '$(FUZZ)'

mutation: ## breaks each rule of spec.Verify and of policy in turn: some test must notice
	@$(GO) run ./tests/mutation ./spec ./policy

lint: ## go vet, staticcheck, gofumpt
	@$(GO) vet ./...
	@$(GO) tool staticcheck ./...
	@out=$$($(GO) tool gofumpt -l $$(find . -name '*.go' -not -path './build/*')); \
		[[ -z $$out ]] || { echo "not gofumpt-formatted:"; echo "$$out"; exit 1; }

vuln: build engine ## known vulnerabilities in what is linked in; asks vuln.go.dev, or GOVULNDB
	@cd tools && $(GO) build -o ../build/govulncheck golang.org/x/vuln/cmd/govulncheck
	@for program in $(PROGRAMS); do echo "$$program:" >&2; \
		build/govulncheck $${GOVULNDB:+-db $$GOVULNDB} -mode binary $$program || failed=1; done; [[ -z $${failed:-} ]]

# Everything that is shipped, and what of Debian is linked into runc or shipped beside.
PROGRAMS := build/safe-run $(addprefix $(ENGINE)/,containerd containerd-shim-runc-v2 ctr runc safe-run-activate safe-run-compose)
DEBIAN   := libseccomp-dev=LGPL-2.1-only,libc6-dev=LGPL-2.1-or-later,tini=MIT
sbom: build engine ## build/sbom.spdx.json: all that is linked in, with licences; fails for one that may not be
	@cd tools && $(GO) build -o ../build/sbom ./sbom
	@SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || echo 0)} \
		build/sbom -o build/sbom.spdx.json -debian $(DEBIAN) $(PROGRAMS)

reproducible: build ## builds safe-run once more, elsewhere and from nothing: the same bytes
	@tests/reproducible.sh '$(VERSION)'

docs: build ## docs/verbs, from the program
	@build/safe-run __docs docs/verbs
	@$(ENGINE)/safe-run-compose __docs docs/verbs

install: build engine ## to PREFIX (/usr/local) below DESTDIR
	@packaging/install.sh "$(DESTDIR)" "$(PREFIX)"

uninstall: ## removes what install has put there
	@packaging/install.sh --uninstall "$(DESTDIR)" "$(PREFIX)"

packages: build engine build/nfpm ## build/packages: a .deb, an .rpm, and an archive for other systems
	@packaging/build.sh '$(VERSION)' deb rpm tarball

deb rpm: build engine build/nfpm
	@packaging/build.sh '$(VERSION)' $@

tarball: build engine
	@packaging/build.sh '$(VERSION)' $@

build/nfpm: tools/go.mod tools/go.sum
	@mkdir -p build
	@cd tools && CGO_ENABLED=0 $(GO) build -trimpath -o ../build/nfpm github.com/goreleaser/nfpm/v2/cmd/nfpm

clean: ## remove build/
	@rm -rf build

FORCE:
