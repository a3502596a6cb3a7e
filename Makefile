# `make help` lists the targets. Each does all its own set-up on a fresh Debian 12 machine, as root.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CACHE ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/overcommit
DENY_VERSION := 0.20.2
DENY := $(CACHE)/tools/cargo-deny-$(DENY_VERSION)/bin/cargo-deny
MUTANTS_VERSION := 27.1.0
MUTANTS := $(CACHE)/tools/cargo-mutants-$(MUTANTS_VERSION)/bin/cargo-mutants

# What tests and demonstrations run: etcd, the container runtime's parts, libvirt and QEMU, image tools.
PACKAGES := etcd-server runc containernetworking-plugins iptables conntrack libvirt-daemon libvirt-daemon-driver-qemu \
	libvirt-dev libvirt-clients qemu-system-x86 qemu-utils debootstrap busybox-static cpio pkg-config iproute2 libcap2-bin \
	openssl procps util-linux xz-utils g++ python3 python3-libvirt debian-archive-keyring

.PHONY: help cargo setup parts check test soak fuzz mutants generate demo demo-end demo-host measure bench simulate compare pictures replay chance fixtures bench-core bench-sim bench-mom bench-policy clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: cargo ## Debian packages and the pinned Rust toolchain, where they are missing
	@# dpkg-query fails for each package that was never heard of: that is the very case.
	@missing=$$({ dpkg-query -W -f='$${Package} $${Status}\n' $(PACKAGES) 2>/dev/null || true; } \
		| awk '/ok installed/{print $$1}' | sort | comm -13 - <(printf '%s\n' $(PACKAGES) | sort)); \
	if [ -n "$$missing" ]; then \
		echo "installing: "$$missing; \
		apt-get update -qq; \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
	@# libvirtd looks for it at start; Debian makes it with a package that starts a daemon of its own.
	@getent passwd libvirt-qemu >/dev/null || useradd --system --user-group --no-create-home \
		--home-dir /var/lib/libvirt --shell /usr/sbin/nologin libvirt-qemu
	@# Asked in each module's folder: a Go of 1.21 or newer may fetch there the one that the module wants.
	@for module in tests/testbed/*/go.mod; do \
		need=$$(awk '$$1 == "go" {print $$2}' $$module); \
		have=$$(cd $${module%/*} && go env GOVERSION 2>/dev/null || true); \
		if [ "$$(printf '%s\n' "$$need" "$${have#go}" | sort -V | head -n 1)" != "$$need" ]; then \
			echo "$$module needs Go $$need or newer, and here is $${have:-none}: install it from https://go.dev/dl"; \
			exit 1; \
		fi; \
	done

# What only computes needs nothing else.
cargo:
	@cargo --version >/dev/null || { echo "cargo is missing: install rustup, then the toolchain of rust-toolchain.toml"; exit 1; }

$(DENY):
	cargo install --quiet --locked --version $(DENY_VERSION) --root $(CACHE)/tools/cargo-deny-$(DENY_VERSION) cargo-deny

check: setup $(DENY) ## formatting, lints, licences, docs, generated files
	cargo fmt --all --check
	# With the one feature that there is: no code asks for its absence.
	cargo clippy --workspace --all-targets --features overcommit-fuzz/engine --locked -- -D warnings
	# The advisory database is a repository of its own, which an offline build cannot reach.
	$(DENY) --locked check bans licenses sources
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked --quiet
	cargo run --quiet --locked --bin crdgen -- --check

generate: ## writes the CRDs from crds/src
	cargo run --quiet --bin crdgen

parts: setup ## what the test bed runs: Kubernetes, KubeVirt, images; built once, about 20 minutes cold
	@# All programs at once: the test bed starts its own, and one selection of packages is one selection of features.
	cargo build --workspace --bins --locked
	cargo run --quiet --locked --bin testbed -- build

programs = $(notdir $(patsubst %/main,%,$(basename $(wildcard $(addsuffix /*.rs,$(1)) $(addsuffix /*/main.rs,$(1))))))
# Programs that only compute, for minutes, and look at no clock.
COMPUTING := $(call programs,node-agent/core/tests node-agent/sim/tests)
# Real guests that rest for minutes and must have no others beside them: what computes has their time, with the lowest weight.
ALONE := model merging
REST := $(filter-out $(COMPUTING) $(ALONE),$(call programs,*/tests */*/tests))
# Tests in a module `waits` wait for guests and API servers, and use a processor for a quarter of their time: so many at a
# time. All others are as many as there are processors.
WAITING ?= $$(n=$$(nproc); echo $$((n > 5 ? n : 5)))
CARGO_TEST := cargo test --workspace --locked --no-fail-fast
test: parts ## every test
	$(CARGO_TEST) --no-run
	@failed=0; \
	echo "what only computes runs meanwhile, told at its end: target/computing.log"; \
	setsid bash -c '{ echo 19 > /proc/self/autogroup; } 2>/dev/null || true; exec nice -n 19 "$$@"' computing \
		$(CARGO_TEST) $(addprefix --test ,$(COMPUTING)) > target/computing.log 2>&1 & \
	computing=$$!; \
	trap 'kill -- -$$computing 2>/dev/null || true' EXIT; \
	set -x; \
	$(CARGO_TEST) $(addprefix --test ,$(ALONE)) || failed=$$?; \
	wait $$computing || failed=$$?; \
	cat target/computing.log; \
	$(CARGO_TEST) --lib --bins $(addprefix --test ,$(REST)) -- --skip waits:: || failed=$$?; \
	$(CARGO_TEST) $(addprefix --test ,$(REST)) -- --test-threads=$(WAITING) waits:: || failed=$$?; \
	exit $$failed

# Turns that each property of the decisions is shown; `make test` shows 100,000.
SOAK_TURNS ?= 10000000
soak: setup ## the properties of the decisions over 10,000,000 turns each, an hour or two
	CARGO_PROFILE_DEV_OPT_LEVEL=3 CARGO_PROFILE_TEST_OPT_LEVEL=3 \
		OVERCOMMIT_SEED=$${OVERCOMMIT_SEED:-$$RANDOM} OVERCOMMIT_TURNS=$(SOAK_TURNS) cargo test -p overcommit-core --tests --locked

# Seconds for all targets together, and which (none: all).
FUZZ_SECONDS ?= 600
TARGETS ?=
HOST = $$(rustc -vV | sed -n 's/^host: //p')
# LLVM's coverage, by codegen options that every stable compiler has: counters per edge, and what is compared with what.
FUZZ_FLAGS := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing
fuzz: setup ## whatever comes from outside, thrown at the parsers for 10 minutes; FUZZ_SECONDS=3600 TARGETS="definition cgroup"
	RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --locked --profile fuzz --target $(HOST) -p overcommit-fuzz --features engine --bin fuzz-engine
	cargo run --quiet --locked -p overcommit-fuzz --bin fuzz -- --engine target/$(HOST)/fuzz/fuzz-engine --seconds $(FUZZ_SECONDS) $(TARGETS)

$(MUTANTS):
	cargo install --quiet --locked --version $(MUTANTS_VERSION) --root $(CACHE)/tools/cargo-mutants-$(MUTANTS_VERSION) cargo-mutants

# Some of them: make mutants MUTATE="-F guard.rs", a pattern over their names. Each mutant is shown fewer turns than `make test` shows.
MUTATE ?=
mutants: setup $(MUTANTS) ## breaks the decisions in every small way and looks whether a test notices, some hours
	OVERCOMMIT_TURNS=10000 $(MUTANTS) mutants --package overcommit-core --output target $(MUTATE)

demo: parts ## the main road on real Kubernetes with real KubeVirt, step by step; KEEP=1 leaves the cluster up
	cargo run --quiet --locked --bin demo

demo-end: ## ends the cluster that KEEP=1 left up
	cargo run --quiet --locked --bin testbed -- down

demo-host: setup ## the agent on real guests under libvirt, without Kubernetes
	cargo build --workspace --bins --locked
	cargo run --quiet --locked --bin demo-host

measure: parts ## what agent and operator cost on this machine, about an hour; ARGS=--write updates docs/measurements.md
	cargo build --release --locked -p overcommit-agent -p overcommit-operator
	cargo run --quiet --locked --bin measure -- $(ARGS)

# SCENARIO has a default below, for `make simulate`: here one counts that was named.
SCENARIO_GIVEN = $(if $(filter command line environment,$(origin SCENARIO)),$(SCENARIO))
# What this build did on this machine is kept under INTO and not run again; REPORT=1 runs nothing; PUBLISH=NAME writes
# docs/benchmarks/NAME.md. Names of scenarios and controllers: ARGS=--help.
INTO ?= target/bench
bench: setup ## real guests on a squeezed host under each controller, 5 minutes a window; SCENARIO=f CONTROLLER=none,ours SEED=1 ROUNDS=3 PUBLISH=NAME
	cargo build --workspace --bins --locked
	cargo build --release --locked -p overcommit-agent
	cargo run --quiet --locked --bin bench -- --into $(INTO) $(if $(SCENARIO_GIVEN),--scenario $(SCENARIO_GIVEN)) \
		$(if $(CONTROLLER),--controller $(CONTROLLER)) $(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(REPORT),--report) $(if $(PUBLISH),--publish $(PUBLISH)) $(ARGS)

# A scenario of the library by its name, and any policy file.
SCENARIO ?= everybody-surges
POLICY ?= deploy/samples/enforce.yaml
# One of the library, or a file.
SCENARIO_FILE = $(or $(wildcard $(SCENARIO)),node-agent/sim/scenarios/$(SCENARIO).yaml)
simulate: cargo ## a scenario on a model of a node: table, and target/SCENARIO.svg; SCENARIO=night-and-day-110-guests or FILE POLICY=FILE
	cargo run --quiet --release --locked -p overcommit-sim --bin simulate -- --scenario $(SCENARIO_FILE) \
		--policy $(POLICY) --svg target/$(basename $(notdir $(SCENARIO_FILE))).svg

compare: cargo ## the loop beside nobody, a fixed split, a naive loop, MOM and an oracle, on all scenarios, into docs/adaptive.md; POLICY=FILE only shows
	cargo run --quiet --release --locked -p overcommit-sim --bin compare -- --policy $(POLICY) \
		$(if $(filter command line environment,$(origin POLICY)),,--page docs/adaptive.md) node-agent/sim/scenarios/*.yaml

pictures: cargo ## what each parameter of a policy trades, drawn for docs/parameters.md: docs/pictures/*.svg, and a table
	cargo run --quiet --locked -p overcommit-sim --bin pictures -- --scenarios node-agent/sim/scenarios \
		--policy deploy/samples/enforce.yaml --into docs/pictures

# POLICY stands for the simulator's default above: another policy is taken where one is named.
replay: cargo ## a recorded node once more: RECORDING=FILE, or "FILE.1 FILE"; POLICY=FILE asks what that would have decided
	cargo run --quiet --release --locked -p overcommit-sim --bin replay -- $(or $(RECORDING),$(error name RECORDING=FILE)) \
		$(if $(filter command line environment,$(origin POLICY)),--policy $(POLICY)) --svg target/replay.svg

# After a change of the engine.
chance: cargo ## writes down how nodes that chance made fare: node-agent/sim/tests/chance.txt, to be compared with what it was
	OVERCOMMIT_WRITE_CHANCE=1 cargo test -p overcommit-sim --locked --test chance
	git diff --stat -- node-agent/sim/tests/chance.txt

# After a change of the engine, too; REAL=1 after one of the recordings' format, or to have another run of real guests.
RECORDINGS := node-agent/sim/tests/recordings
fixtures: setup ## writes down what is decided in the recorded runs of real guests; REAL=1 records them anew, 5 minutes
	if [ -n "$(REAL)" ]; then \
		cargo build --workspace --bins --locked; \
		OVERCOMMIT_KEEP_RECORDINGS=$(CURDIR)/$(RECORDINGS) cargo test -p overcommit-tests --locked --test model; \
	fi
	OVERCOMMIT_WRITE_DECISIONS=1 cargo test -p overcommit-sim --locked --test recordings

bench-core: cargo ## what one decision costs at 110 guests: time and allocations
	cargo bench -p overcommit-core --bench decide

bench-policy: cargo ## what MOM's stock balloon policy costs at 110 guests: time and allocations
	cargo bench --locked -p overcommit-policy --bench stock

bench-mom: setup ## how much faster than MOM's own evaluator ours is, at 110 guests, in one run
	MOM=$$(cargo run --quiet --locked --bin testbed -- mom) cargo bench --quiet --locked -p overcommit-policy --bench mom

bench-sim: cargo ## how fast a week of 110 guests is simulated, and that its memory stays flat
	cargo bench --locked -p overcommit-sim --bench week

clean: ## removes what was built here; the cache of built parts stays
	cargo clean
