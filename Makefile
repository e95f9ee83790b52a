# What one does in this repository. `make` alone tells.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules --warn-undefined-variables
.DEFAULT_GOAL := help

target := $(or $(CARGO_TARGET_DIR),target)
scripts := .ci/run .ci/release-notes $(addprefix deploy/image/,build enter rootfs) tests/control-plane/build tests/tools/build tests/slow-machine $(addprefix tests/packaging/,generate check plane verdict apply operate)
version := $(shell sed -n '/^\[workspace.package\]/,$$ s/^version = "\(.*\)"$$/\1/p' Cargo.toml)
is_released := grep -q '^\#\# \[$(version)\] - ' CHANGELOG.md
IMAGE ?= datafast-operator:$(version)

# Most of a test's time is waiting, so run more of them at once than there are cores.
cores := $(shell nproc)
test_threads := $(shell echo $$((8 * $(cores))))

# Features depend on what is built together: with other words, cargo builds most dependencies once more.
binaries := --workspace --bins
# The tests of what the end-to-end tests are made with.
of_harness := $(sort $(basename $(notdir $(wildcard tests/*/tests/*))))

# The one that is installed, else one of our own.
deny_version := 0.20.2
deny := $(or $(shell command -v cargo-deny),$(target)/tools/bin/cargo-deny)

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: control-plane ## A real API server, DataFast in memory and the operator on this machine (DEMO_ONCE=1: end by itself)
	cargo build $(binaries)
	exec $(target)/debug/demo --operator $(target)/debug/datafast-operator

.PHONY: test
test: control-plane tools ## Every test
	cargo test --workspace --no-run
	cargo test --workspace --lib --bins $(addprefix --test ,$(of_harness))
	cargo test --doc
	@# Most of an end-to-end test's time is waiting: what is long besides is done meanwhile.
	$(MAKE) --jobs=3 binaries='$(binaries) --tests' test-end-to-end test-protocol chart-test
	$(target)/debug/rights --runs $(target)/harness

.PHONY: test-end-to-end
test-end-to-end: control-plane
	RUST_BACKTRACE=0 RUST_TEST_THREADS=$(test_threads) cargo test --test e2e

.PHONY: test-protocol
test-protocol:
	cargo test --test protocol

.PHONY: test-slow
test-slow: control-plane ## The end-to-end tests on a machine that is slow on purpose: some 20 minutes
	RUST_TEST_THREADS=$(test_threads) tests/slow-machine

.PHONY: bench
bench: control-plane ## How fast it is and what it costs: some 10 minutes, on a machine that does nothing else
	cargo bench --bench table

.PHONY: lint
lint: $(deny) chart ## Formatting, clippy, licences and sources of dependencies, scripts, chart, generated files
	for script in $(scripts); do bash -n "$$script"; done
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	$(deny) check --hide-inclusion-graph bans licenses sources

.PHONY: manifests
manifests: tools ## Write crds/*.yaml, deploy/install.yaml and what else is generated in deploy/ anew
	cargo run -- crds --output-dir crds --schema-dir deploy/schemas
	tests/packaging/generate
	$(is_released) || install -D --mode=644 --target-directory=tests/fixtures/releases/$(version)/crds crds/*.yaml

.PHONY: chart
chart: tools ## The chart, alerts, dashboard and GitOps health check; what is generated from them is fresh
	tests/packaging/check

.PHONY: chart-test
chart-test: tools control-plane ## The chart and install.yaml on a real API server, and the operator with their rights
	cargo build $(binaries)
	tests/packaging/apply
	tests/packaging/operate

.PHONY: release-fixtures
release-fixtures: control-plane ## Record anew what this version stores, for the tests of later ones: until it is released
	@! $(is_released) || { echo '$(version) is released, and what it stores is known: raise the version in Cargo.toml'; exit 1; }
	DATAFAST_KEEP_RECORDING=1 cargo test --test e2e upgrade::what_this_version

.PHONY: run
run: ## The operator against the current kube context (ARGS="--allow-plain-http ..." for its flags)
	cargo run -- run $(ARGS)

.PHONY: image
image: ## The container image (IMAGE=name:tag); where no engine works, its root file system and an archive
	deploy/image/build $(IMAGE) $(target)/image

.PHONY: image-test
image-test: control-plane ## The image's root file system: all that it needs is in it, its own CA certificates for one
	deploy/image/rootfs $(target)/image/rootfs
	DATAFAST_IMAGE_ROOTFS=$(abspath $(target))/image/rootfs cargo test --test image

.PHONY: control-plane
control-plane: ## etcd, the Kubernetes API server and kubectl, built from source: 6 minutes the first time
	@tests/control-plane/build

.PHONY: tools
tools: ## Helm, kubeconform, promtool and lua, which check the chart: 2 minutes the first time
	@tests/tools/build

$(target)/tools/bin/cargo-deny:
	@echo 'lint: no cargo-deny on the PATH: building $(deny_version) into $(target)/tools, some minutes once'
	CARGO_PROFILE_DEV_DEBUG=false cargo install cargo-deny --locked --debug --version $(deny_version) --root $(target)/tools --target-dir $(target)/tools/build
