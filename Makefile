# `make help` lists what can be done here. Every target works from a clean clone, without a terminal, as root or not.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build run test bench fmt lint gen sqlx record chart containers ci clean

PROFILE ?= dev
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
PROFILE_DIR := $(TARGET_DIR)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

# Queries are checked against .sqlx, not against whatever database the caller's DATABASE_URL names.
export SQLX_OFFLINE := true

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## check the tools and fetch a Postgres where none is installed
	@scripts/setup

build: setup ## build the binaries (PROFILE=release for fast ones)
	@cargo build --workspace --bins --profile $(PROFILE)

run: setup ## build and start everything on this machine, until Ctrl-C
	@cargo build --package taskyard --bins --profile $(PROFILE)
	@exec "$(PROFILE_DIR)/taskyard" dev $(ARGS)

test: setup ## run every test on a Postgres of its own (ARGS="-p PACKAGE NAME" for some)
	@# with the tests at once, so that what both are made of is built once
	@cargo build --workspace $(if $(ARGS),--bins,--all-targets)
	@exec "$(TARGET_DIR)/debug/taskyard-scratch-postgres" --migrations migrations -- \
		cargo test $(or $(ARGS),--workspace)

bench: setup ## measure against baselines (ARGS="run latency" for some)
	@cargo build --workspace --bins --release
	@exec "$(TARGET_DIR)/release/taskyard-bench" $(ARGS)

fmt: ## format the sources
	@cargo fmt --all

lint: ## format check, clippy, rustdoc, .proto files and documents
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets -- -D warnings
	@# the readers are developers: private items are shown, and may be linked to
	@RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --document-private-items --quiet
	@scripts/buf lint proto
	@for record in compat/*/descriptors.binpb; do \
		scripts/buf breaking proto --against "$$record" || { echo "lint: proto breaks $$record" >&2; exit 1; }; done
	@scripts/check-docs
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; \
		else echo "lint: SKIPPED cargo deny: cargo-deny is not installed"; fi

gen: ## write the code generated from proto/, the dashboard and the alerts
	@UPDATE=1 cargo test --package taskyard-proto --package taskyard-telemetry

sqlx: setup ## write .sqlx, with which queries are checked without a database
	@scripts/sqlx-prepare

record: setup ## write compat/VERSION, what later releases must get along with (ARGS=--check to compare)
	@scripts/record-release $(ARGS)

chart: ## check the Helm chart and the Dockerfile
	@scripts/chart check

containers: setup ## run what the images hold as a container would, without an engine
	@cargo build --workspace --bins --profile $(PROFILE)
	@containers/check "$(PROFILE_DIR)/taskyard"

ci: ## exactly what the gate runs
	@.ci/run

clean: ## remove what was built
	@cargo clean
