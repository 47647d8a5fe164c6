# sampan: what is typed here works on a fresh Debian 12 or 13 machine.
# `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCKED := $(VENV)/.locked
IMAGE ?= /var/lib/sampan/image
JOBS ?= $(shell nproc)
# KERNEL=tuned: tests and benchmarks with that kernel in the guests.
TESTHOST := tests/testhost/run $(if $(KERNEL),--kernel $(KERNEL))

PY_DIRS := shim agent native proto image tests benchmarks docs
TYPED := -p shim -p agent -p image -m native.ffi $(addprefix -m proto.,clock contract control names network generate)
TYPED_TESTS := tests benchmarks
C_FILES = $(shell find native tests/native tests/fuzz tests/vm/hostile_guest -name '*.[ch]' -not -path '*/build/*' 2>/dev/null)

CHECKS := check-format check-lint check-types check-layers check-proto check-c-format \
	check-unit check-c-unit check-fuzz

.DELETE_ON_ERROR:
.PHONY: help dev debian-packages native check $(CHECKS) test test-unit test-integration test-vm \
	test-vm-first test-vm-second test-slow calls suites build-conformance conformance shimtest \
	versions docker podman fuzz fuzz-machine fuzz-packages soak run bench bench-shimtest \
	bench-parts fmt proto pictures image lock clean

help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

# A check that passes prints nothing.
quietly = out=$$($(1) 2>&1) || { printf '%s\n' "$$out"; echo "failed: $@"; exit 1; }

$(LOCKED): requirements/runtime.txt requirements/dev.txt
	@requirements/install-debian
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		-r requirements/runtime.txt -r requirements/dev.txt
	@touch $@

dev: $(LOCKED) native ## .venv with everything locked, the C layer built

native: $(LOCKED) ## build the C layer in place
	@$(BIN)/python -m native.build

check: $(LOCKED) native ## format, lint, types, layers, drift, unit tests; no root, no KVM
	@$(MAKE) --no-print-directory --keep-going --output-sync=target -j$(JOBS) $(CHECKS)

check-format: $(LOCKED)
	@$(call quietly,$(BIN)/ruff format --check $(wildcard $(PY_DIRS)))

check-lint: $(LOCKED)
	@$(call quietly,$(BIN)/ruff check $(wildcard $(PY_DIRS)))

check-types: $(LOCKED)
	@$(call quietly,$(BIN)/mypy $(TYPED))
	@$(call quietly,$(BIN)/mypy $(TYPED_TESTS))

check-layers: $(LOCKED)
	@$(call quietly,$(BIN)/lint-imports)

check-proto: $(LOCKED)
	@$(call quietly,$(BIN)/python -m proto.generate --check)

check-c-format: $(LOCKED)
	@$(call quietly,$(BIN)/clang-format --dry-run -Werror $(C_FILES))

check-unit:
	@$(BIN)/python -m pytest tests/unit tests/style

check-c-unit:
	@$(MAKE) --no-print-directory -C tests/native

check-fuzz: # what fuzzers have found, once more
	@$(MAKE) --no-print-directory -C tests/fuzz

test: test-unit test-integration test-vm ## every test; those that need KVM in the test host

test-unit: $(LOCKED) native check-unit check-c-unit ## unit tests, Python's and C's

test-integration: $(LOCKED) native ## tests that need root, no KVM
	@$(BIN)/python -m pytest tests/integration

# The test host brings its own Python packages: these need no .venv here.  Two emulated hosts
# at a time, since one alone does not keep two processors busy.
test-vm: debian-packages ## tests in microVMs and under containerd, in two test hosts
	@$(MAKE) --no-print-directory --jobs=2 test-vm-first test-vm-second

VM_TESTS := --timeout 3000 -- python3 -m pytest -o timeout=300 -m "not slow"
test-vm-first:
	@REQUIRE_VM=1 REQUIRE_E2E=1 $(TESTHOST) --beside first $(VM_TESTS) \
		tests/vm $(wildcard tests/e2e/test_[a-h]*.py)

test-vm-second:
	@REQUIRE_VM=1 REQUIRE_E2E=1 $(TESTHOST) --beside second $(VM_TESTS) \
		$(wildcard tests/e2e/test_[i-z]*.py)

test-slow: debian-packages ## the tests that take minutes each
	@REQUIRE_VM=1 REQUIRE_E2E=1 $(TESTHOST) --timeout 14400 -- \
		python3 -m pytest -o timeout=3600 -m slow tests/vm tests/e2e

# pjdfstest and fsx are crates: they need a cargo.
calls: debian-packages ## what the jail allows beside what the end-to-end tests use
	@REQUIRE_E2E=1 $(TESTHOST) --timeout 5400 -- python3 -m tests.calls

suites: debian-packages ## public file-system suites in containers, sampan beside runc
	@cargo install --quiet --root build/suites pjdfstest@0.2.2 fsx@0.3.2
	@$(TESTHOST) --timeout 7200 --put build/suites/bin:/root/suites -- \
		python3 -m tests.suites --binaries /root/suites

# Go modules: they need a go.  Their versions and sums are in go.mod and go.sum.  The
# suite calls version 3 of the service, which runc's shim has from containerd 2.0 on.
build-conformance:
	@mkdir -p build/conformance
	@cd tests/conformance && export CGO_ENABLED=0 && out=../../build/conformance && \
		go test -c -o $$out/shimtest.test github.com/containerd/shimtest && \
		go build -ldflags='-s -w' -o $$out/testbin github.com/containerd/shimtest/cmd/testbin

conformance: shimtest versions ## what containerd's own suite and its versions ask of a shim

shimtest: debian-packages build-conformance ## containerd's own shim suite, sampan beside runc
	@$(TESTHOST) --containerd 2.1 --timeout 7200 --put build/conformance:/root/conformance \
		--get /tmp/conformance:build/conformance/logs -- \
		python3 -m tests.conformance --binaries /root/conformance

docker: debian-packages ## calls of docker under runc and under sampan, compared; ONLY=
	@REQUIRE_E2E=1 $(TESTHOST) --clients docker --timeout 7200 -- \
		python3 -m tests.clients docker $(ONLY)

podman: debian-packages ## podman by the OCI command line: its tests, then docker's calls; ONLY=
	@REQUIRE_PODMAN=1 REQUIRE_E2E=1 $(TESTHOST) --clients podman --timeout 7200 -- sh -c \
		'python3 -m pytest -o timeout=300 tests/e2e/test_podman.py && \
		 python3 -m tests.clients podman $(ONLY)'

versions: debian-packages ## the end-to-end tests under containerd 1.6 and 2.1
	@for version in 1.6 2.1; do \
		REQUIRE_E2E=1 $(TESTHOST) --containerd $$version --timeout 3300 -- \
			python3 -m pytest -o timeout=300 -m "not slow" tests/e2e || exit 1; \
	done

ROUNDS ?= 20000
fuzz: $(LOCKED) native fuzz-packages ## hostile guests and callers; SECONDS= (of the guests), ROUNDS=, SEED=
	@$(MAKE) --no-print-directory -C tests/fuzz fuzz SECONDS=$(if $(filter command line,$(origin SECONDS)),$(SECONDS),900)
	@SAMPAN_FUZZ_ROUNDS=$(ROUNDS) SAMPAN_FUZZ_SEED=$(or $(SEED),$$(date +%s)) \
		$(BIN)/python -m pytest -o timeout=3600 $(wildcard tests/unit/test_*fuzz*.py)

# vhost-net is in the test host alone; the fuzzer is compiled here.
fuzz-machine: SECONDS := $(if $(filter command line,$(origin SECONDS)),$(SECONDS),300)
fuzz-machine: debian-packages fuzz-packages ## a guest that attacks its machine, in the test host; SECONDS=, SEED=
	@$(MAKE) --no-print-directory -C tests/fuzz ../../build/fuzz/asan/fuzz_net
	@mkdir -p build/fuzz-machine/asan && cp build/fuzz/asan/fuzz_net build/fuzz-machine/asan
	@SAMPAN_FUZZ_SECONDS=$(SECONDS) SAMPAN_FUZZ_SEED=$(or $(SEED),$$(date +%s)) REQUIRE_VM=1 \
		$(TESTHOST) --timeout $$((3 * $(SECONDS) + 600)) --put build/fuzz-machine:/root/fuzz -- sh -c \
		'python3 -m pytest -s -o timeout=0 tests/vm/test_hostile_guest.py && \
		 python3 tests/fuzz/run.py --seconds $(SECONDS) --out /root/fuzz asan/net@vhost'

fuzz-packages:
	@requirements/install-debian fuzz.txt

SECONDS ?= 1800
soak: debian-packages ## containers driven at random against a model; SECONDS=, SEED=
	@$(TESTHOST) --timeout $$(($(SECONDS) + 900)) -- \
		python3 -m tests.soak --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

run: debian-packages ## a container in a microVM, from nothing
	@$(TESTHOST) --timeout 900 -- python3 tests/testhost/demo.py

bench: debian-packages ## sampan and runc side by side; build/bench.json, bench.svg, bench.md
	@mkdir -p build
	@$(TESTHOST) --timeout 7200 --get /tmp/bench.json:build/bench.json \
		--get /tmp/bench.md:build/bench.md --get /tmp/bench.svg:build/bench.svg \
		--get /tmp/network.json:build/network.json --get /tmp/files.json:build/files.json -- sh -c \
		'python3 -m benchmarks --rounds 3 --stdout-mib 64 --json /tmp/bench.json >/tmp/bench.md && \
		 python3 -m benchmarks.idle >>/tmp/bench.md && \
		 python3 -m benchmarks.network --json /tmp/network.json >>/tmp/bench.md && \
		 python3 -m benchmarks.files --rounds 2 --json /tmp/files.json >>/tmp/bench.md && \
		 python3 -m benchmarks.qemu >>/tmp/bench.md; \
		 status=$$?; cat /tmp/bench.md; exit $$status'
	@if command -v go >/dev/null; then $(MAKE) --no-print-directory bench-shimtest; \
		else echo "no go here: containerd's own benchmarks of shims are left out"; fi

bench-shimtest: debian-packages build-conformance
	@$(TESTHOST) --containerd 2.1 --timeout 3600 --put build/conformance:/root/conformance \
		-- python3 -m benchmarks.shimtest --binaries /root/conformance

bench-parts: $(LOCKED) native ## parts of a start at hardware speed, beside runc and crun; ROUNDS=
	@requirements/install-debian bench.txt
	@$(BIN)/python -m benchmarks.parts --rounds $(if $(filter command line,$(origin ROUNDS)),$(ROUNDS),25)

debian-packages:
	@requirements/install-debian

fmt: $(LOCKED) ## format Python and C, sort imports
	@$(BIN)/ruff format --quiet $(wildcard $(PY_DIRS))
	@$(BIN)/ruff check --quiet --fix $(wildcard $(PY_DIRS))
	@$(BIN)/clang-format -i $(C_FILES)

proto: $(LOCKED) ## generate proto/gen from the .proto files
	@$(BIN)/python -m proto.generate

pictures: ## the pictures of the documents from their data
	@$(PYTHON) docs/pictures/make.py

image: $(LOCKED) ## the guest image (root; IMAGE=DIR)
	@$(BIN)/python -m image build --output $(IMAGE)

lock: $(LOCKED) ## lock the Python packages again
	@requirements/lock

clean: ## what was built in the tree; caches outside it stay
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
	find native -name '*.so' -delete
	@test ! -f tests/native/Makefile || $(MAKE) --no-print-directory -C tests/native clean
	@test ! -f tests/fuzz/Makefile || $(MAKE) --no-print-directory -C tests/fuzz clean
