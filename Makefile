# Plyrum: `make run` and `make test` do all set-up by themselves. Python 3.11 and make are all they need.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test lint bench simulate mutants clean

help: ## show this list
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run ## start everything: database, Redis, sandbox, site, worker, beat (PORT, PLYRUM_DATA_DIR)
	@exec $(BIN)/python manage.py up

test: $(VENV)/.dev ## run everything CI runs, the browser included
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.all

lint: $(VENV)/.dev ## format check, lint, import contracts, types
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.all --lint

bench: $(VENV)/.dev ## measure speed as ratios in one run (PEER=litellm adds the peer)
	@$(BIN)/python -m bench $(if $(PEER),--peer $(PEER))

simulate: $(VENV)/.dev ## play the ledger against its model with N random seeds (N=1000)
	@LEDGER_SEEDS=$(or $(N),1000) $(BIN)/python -m pytest -q tests/billing/test_simulation.py

mutants: $(VENV)/.dev ## change the money code bit by bit, see whether tests notice (ONLY=file, EVERY=N; hours without)
	@$(BIN)/python -m tests.mutants $(if $(ONLY),--only $(ONLY)) $(if $(EVERY),--every $(EVERY))

clean: ## remove the environment and caches; data under .plyrum stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage staticfiles
	find . -name __pycache__ -type d -not -path './.plyrum/*' -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is not found; name it with PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements/run.txt | $(VENV)/bin/python
	@[ -f $(VENV)/.dev ] || $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt | $(VENV)/bin/python
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@
