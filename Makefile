# What people and CI call. Each target does all that it needs, and nothing twice.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: serve rust install build server agent check deny docs book test test-mcp test-python test-examples soak bench cluster test-cluster bench-cluster bench-many-pods cluster-down clean

CARGO ?= cargo
# Starting sandboxes needs root, building does not.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
# The agent runs in whatever image: static, small, and apart from the server's own artefacts,
# since its RUSTFLAGS would have cargo build everything twice.
AGENT := target/agent/$(HOST)/agent/sandpool-agent

## serve: install what is missing, build, and run the server on 127.0.0.1:50051
serve: rust install build
	$(SUDO) target/release/sandpool serve

rust:
	@command -v $(CARGO) >/dev/null || { echo "install Rust first: https://rustup.rs" >&2; exit 1; }

## install: runsc, python3 and bash, where the machine lacks them
install:
	scripts/install.sh

## build: the server and, beside it, the agent
build: server agent
	install -m 755 $(AGENT) target/release/.sandpool-agent.new
	mv target/release/.sandpool-agent.new target/release/sandpool-agent

server:
	$(CARGO) build --release --locked --bin sandpool

agent:
	RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --locked --profile agent \
	    --no-default-features --features agent --bin sandpool-agent \
	    --target $(HOST) --target-dir target/agent

## check: format, lints, documentation, licences
check: deny
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings
	$(CARGO) clippy --locked --all-features --test kubernetes --test faults --test soak -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --all-features

deny:
	command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny --log-level warn check --hide-inclusion-graph licenses bans sources

## docs: docs/reference and what docs/configuration.md has of the sources, anew (tests fail while they are not current)
docs:
	UPDATE_REFERENCE=1 $(CARGO) test --locked --all-features --lib every_key_is_documented
	UPDATE_REFERENCE=1 $(CARGO) test --locked --all-features --test reference -- --test-threads=1

## book: the documentation as a site, target/book
book:
	command -v mdbook >/dev/null || $(CARGO) install --locked mdbook
	scripts/book.sh

## test: all tests, on real gVisor where there is one
test: install agent
	scripts/install-test-tools.sh
	SANDPOOL_AGENT="$(CURDIR)/$(AGENT)" $(CARGO) test --locked --all-features

## test-python: the Python client, its format, types and tests, against a real server
test-python: install agent
	$(CARGO) build --locked --all-features
	clients/python/test target/debug/sandpool "$(AGENT)"

## test-examples: the examples, as their READMEs say, against a real server
test-examples: install agent
	$(CARGO) build --locked --all-features
	examples/test target/debug/sandpool "$(AGENT)"
	tests/guide/run local target/debug/sandpool "$(AGENT)"

## test-mcp: `sandpool mcp`, driven by MCP's official Python client, against a real server
test-mcp: install agent
	scripts/install-test-tools.sh
	$(CARGO) build --locked --all-features
	tests/mcp/run target/debug/sandpool "$(AGENT)"

## soak: all kinds of work in many sandboxes for minutes; nothing is mixed up and nothing left
SOAK_SECONDS ?= 300
SOAK_SANDBOXES ?= 50
soak: install agent
	SANDPOOL_AGENT="$(CURDIR)/$(AGENT)" SOAK_SECONDS=$(SOAK_SECONDS) SOAK_SANDBOXES=$(SOAK_SANDBOXES) \
	    $(CARGO) test --locked --all-features --test soak -- --nocapture

## bench: the figures that README shows
bench: install build
	SANDPOOL_AGENT="$(CURDIR)/target/release/sandpool-agent" $(CARGO) bench --locked \
	    --bench latency --bench throughput --bench stdout --bench memory --bench pool --bench named

## cluster: a Kubernetes cluster with gVisor on this machine, for tests (NODES=1)
NODES ?= 1
cluster:
	$(SUDO) tests/cluster/cluster up $(NODES)

## test-cluster: all tests of a cluster on the one of `make cluster`, or most of them on the one that KUBECONFIG names
test-cluster: agent
	tests/cluster/test "$(CURDIR)/$(AGENT)" $(CARGO)

## bench-cluster: the figures of docs/benchmarks.md, on the cluster that `make cluster` made
bench-cluster: build
	tests/cluster/bench "$(CURDIR)/target/release/sandpool-agent" $(CARGO)

## bench-many-pods: what a server needs for 5,000 idle pods, by an API server that follows a script
bench-many-pods: server
	$(CARGO) bench --locked --bench many_pods

cluster-down:
	$(SUDO) tests/cluster/cluster down

clean:
	$(CARGO) clean
