# Everything here runs in a virtual environment inside the clone, made from hash-locked dependencies on first use.
# Only Python 3.11 or newer is needed. PYTHON=... chooses another interpreter.

SHELL := /bin/bash
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help demo cluster-demo test model faults check fast format format-check lint types layers lock bench bench-memory test-oldest test-orchestrators picture reference wheel audit sbom clean

new_enough := import sys, venv, ensurepip; raise SystemExit(sys.version_info < (3, 11))
PYTHON ?= $(shell for candidate in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	$$candidate -c '$(new_enough)' 2>/dev/null && echo $$candidate && break; done)

# A clone's own settings only: what is configured for the caller's shell must not leak into the environment.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_REQUIRE_VIRTUALENV :=


venv := .venv
bin := $(venv)/bin
ready := $(venv)/.ready
oldest := .venv-oldest
auditing := .venv-audit
WORKERS ?= 3
code := reverse_etl tests benchmarks docs examples

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: $(ready)  ## Watch the whole job: sample warehouse, dry run, first run, changes only, nothing new
	@$(bin)/reverse-etl demo

cluster-demo: $(ready)  ## One daemon, three workers, PostgreSQL; a worker is killed on the way (a minute or two)
	@$(bin)/python -W ignore -m examples.several_machines

test: $(ready)  ## Run the whole test suite, in as many processes as WORKERS says (some tests mostly wait)
	@$(bin)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

model: $(ready)  ## Play a sync against everything that can happen to it, 150 stories of 40 steps (PROFILE=nightly: 5,000)
	@$(bin)/python -m pytest -n $(WORKERS) tests/properties/test_model.py --hypothesis-profile $(or $(PROFILE),model) $(ARGS)

faults: $(ready)  ## Break everything around real runs (TIER=smoke|nightly|release, ID=F01 SEED=7 for one)
	@$(bin)/python -W ignore -m tests.faults --tier $(or $(TIER),smoke) --seed $(or $(SEED),1) $(if $(ID),--id $(ID)) $(ARGS)

check: format-check lint types layers test  ## Everything that must be green before a change lands

fast: format-check lint types layers  ## The half of `check` that takes seconds

format: $(ready)  ## Rewrite the code in the one format
	@$(bin)/ruff format $(code)
	@$(bin)/ruff check --fix-only --quiet $(code)

format-check: $(ready)
	@$(bin)/ruff format --check $(code)

lint: $(ready)  ## Ruff's rules, bans of modules outside their rooms included
	@$(bin)/ruff check $(code)

types: $(ready)  ## mypy --strict, tests too
	@$(bin)/mypy

layers: $(ready)  ## Imports point down only
	@$(bin)/lint-imports --no-cache --no-logo

bench: $(ready)  ## Ratios against bare scripts: idle run, 1 % changed, first load, start-up
	@$(bin)/python -m benchmarks $(ARGS)

bench-memory: $(ready)  ## Peak memory at ten million rows (minutes)
	@$(bin)/python -m benchmarks memory $(ARGS)

reference: $(ready)  ## Write docs/reference/ anew from the models and the commands
	@$(bin)/python -m docs.generate

picture: $(ready)  ## Draw the README's picture from a real run of the demo
	@$(bin)/python -m docs.picture

test-oldest: $(oldest)/.ready  ## The cheap tests with the oldest releases pyproject.toml allows
	@$(oldest)/bin/python -m pytest -W ignore::DeprecationWarning tests/unit tests/conformance $(ARGS)

test-orchestrators: .venv-airflow/.ready .venv-dagster/.ready  ## The Airflow operator and the Dagster assets, each with the real package
	@.venv-airflow/bin/python -m pytest $(lenient) tests/orchestrators $(ARGS)
	@.venv-dagster/bin/python -m pytest $(lenient) tests/orchestrators $(ARGS)

wheel: $(ready)  ## Build the wheel into dist/
	@$(bin)/python -m hatchling build -t wheel

lock: .venv-lock/bin/uv  ## Resolve the newest releases anew into requirements/*.txt, with hashes and without addresses
	@$(resolve) -q pyproject.toml requirements/dev.in --extra postgres --extra workers --upgrade -o requirements/dev.txt
	@$(resolve) -q pyproject.toml requirements/oldest.in --extra postgres --upgrade --resolution lowest-direct -o requirements/oldest.txt
	@$(resolve) -q requirements/audit.in --upgrade -o requirements/audit.txt
	@$(resolve) -q pyproject.toml requirements/image.in --extra postgres --extra workers --upgrade -o requirements/image.txt
	@$(resolve) -q pyproject.toml requirements/orchestrators.in --extra airflow --upgrade -o requirements/airflow.txt
	@$(resolve) -q pyproject.toml requirements/orchestrators.in --extra dagster --upgrade -o requirements/dagster.txt

audit: $(auditing)/.ready  ## Hold the locked dependencies against known advisories; fails where they can't be asked for
	@$(auditing)/bin/python .ci/audit.py $(ARGS) requirements/dev.txt

sbom: $(ready) $(auditing)/.ready  ## Write dist/sbom.json: every package of the environment, as CycloneDX
	@mkdir -p dist
	@$(auditing)/bin/cyclonedx-py environment $(bin)/python --pyproject pyproject.toml --output-reproducible \
		--output-format JSON --output-file dist/sbom.json

clean:  ## Remove environments, caches and what runs have left in the clone
	rm -rf $(venv) $(oldest) $(auditing) .venv-airflow .venv-dagster .venv-lock .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build .reverse_etl

lenient := -o filterwarnings=default -o timeout=300  # their warnings are theirs
resolve := .venv-lock/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

define make_venv
@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with venv and ensurepip was found (on Debian: apt-get install python3-venv)." >&2; exit 1; }
@echo "Making $(1) with $$($(PYTHON) --version), once ..." >&2
@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
@$(1)/bin/python -m pip install --quiet --require-hashes -r $(2) >&2
@$(1)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable . >&2
@touch $(1)/.ready
endef

$(ready): requirements/dev.txt pyproject.toml
	$(call make_venv,$(venv),requirements/dev.txt)

$(oldest)/.ready: requirements/oldest.txt pyproject.toml
	$(call make_venv,$(oldest),requirements/oldest.txt)

.venv-%/.ready: requirements/%.txt pyproject.toml
	$(call make_venv,.venv-$*,requirements/$*.txt)

$(auditing)/.ready: requirements/audit.txt
	@test -x $(auditing)/bin/python || $(PYTHON) -m venv $(auditing)
	@$(auditing)/bin/python -m pip install --quiet --require-hashes -r requirements/audit.txt >&2
	@touch $(auditing)/.ready

.venv-lock/bin/uv:
	@$(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python -m pip install --quiet uv
