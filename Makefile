# `make demo` and `make test` need Python 3.11 or newer, a C++ compiler and the package registries;
# they make their own environment, and skip whatever an earlier run has made.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
STAMP := installed-$(shell cat pyproject.toml setup.py constraints.txt .locks/*.txt nsedge/version.py nsedge/native/src/* | cksum | cut -d' ' -f1)
INSTALLED := .venv/$(STAMP)
NEXT := .venvs/next
PYTEST := $(BIN)/python -m pytest -q
NO_MODEL := --ignore=tests/export --ignore=tests/integration --ignore=tests/systemd --ignore=tests/faults \
	--ignore=tests/clients
BUNDLE_OF := import json, sys; print(json.load(sys.stdin)["bundle"])
export PROMPT

.ONESHELL:

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

.PHONY: demo
demo: bundle ## stream an answer over ZeroMQ and over SSE (PROMPT="..." chooses the question)
	@.ci/demo

.PHONY: test
test: lint unit exporters integration systemd ## lint, types, import contracts and every test

.PHONY: lint
lint: $(INSTALLED) ## style, types and import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: unit
unit: $(INSTALLED) ## the tests that need no model
	$(PYTEST) $(NO_MODEL)

.PHONY: exporters
exporters: $(INSTALLED) ## export small models through torch and Optimum
	$(PYTEST) tests/export

.PHONY: exporters-next
exporters-next: $(NEXT)/$(STAMP) ## the same beside transformers 5 and without Optimum, in an environment of its own
	$(NEXT)/bin/python -m pytest -q $(addprefix tests/export/test_,$(addsuffix .py,architectures hub merge model_command train variants))

.PHONY: integration
integration: bundle ## the real model through every door
	$(PYTEST) tests/integration

.PHONY: clients
clients: bundle ## other people's clients, and schemathesis, against the daemon, in environments of their own
	$(PYTEST) tests/clients

.PHONY: meaning
meaning: $(INSTALLED) ## train small models on pictures, and see what they tell of others (SHORT=--short: a minute)
	$(BIN)/python -m exporters.meaning $(SHORT) --json bench/results/meaning.json

.PHONY: systemd
systemd: bundle ## the installed units under a real systemd (root and systemd-nspawn; else skipped)
	$(PYTEST) tests/systemd

.PHONY: faults
faults: bundle ## kill, starve, stop and flood the real daemon
	$(PYTEST) tests/faults

.PHONY: bundle
bundle: $(INSTALLED) ## the starter models' bundles, built once and kept in the cache
	@$(BIN)/nsedge-export starter
	@$(BIN)/nsedge-export starter --embeddings

.PHONY: bench
bench: bundle ## figures of the engine and of the daemon on this machine
	bundle=$$($(BIN)/nsedge-export starter --json 2>/dev/null | $(BIN)/python -c '$(BUNDLE_OF)')
	$(BIN)/python -m bench.step --bundle "$$bundle"
	$(BIN)/python -m bench.serve --bundle "$$bundle"

.PHONY: compare
compare: bundle ## nsedge beside llama.cpp, OpenVINO GenAI and onnxruntime-genai; hours, and gigabytes
	$(BIN)/python -m bench.compare --json compare.json

.PHONY: docs
docs: $(INSTALLED) ## write what the code and the results of the benchmarks generate
	$(BIN)/python -m nsedge.config > docs/settings.md
	$(BIN)/python -m bench.charts bench/results/compare.json --charts docs/charts
	$(BIN)/python -m bench.pages

.PHONY: locks
locks: ## write .locks from pyproject.toml (UPGRADE=--upgrade takes the newest versions)
	$$(.ci/tools) .ci/lock.py $(UPGRADE)

.PHONY: ranges
ranges: ## the tests that need no model, with the oldest and the newest versions of all ranges
	.ci/range oldest oldest web exporters dev
	.venvs/oldest/bin/python -m pytest -q $(NO_MODEL)
	.ci/range newest newest web exporters dev
	.venvs/newest/bin/python -m pytest -q $(NO_MODEL)
	.ci/range daemon newest web signatures telemetry gguf dev
	.venvs/daemon/bin/python -m pytest -q $(NO_MODEL) --ignore=tests/unit/exporters

.PHONY: clean
clean: ## remove the environment and every cache below this folder
	rm -rf .venv .venvs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED):
	@.ci/venv $@ .locks/development.txt

$(NEXT)/$(STAMP):
	@.ci/venv $@ .locks/next.txt
