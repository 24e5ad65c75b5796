# Commands of this checkout. Each makes the environment it needs, in .venv, and makes it anew
# only when pyproject.toml changes. `make help` lists them.

PYTHON ?= python3
VENV ?= .venv
# Processes that share the tests, file by file; 0 runs them in one.
WORKERS ?= auto
BIN := $(VENV)/bin
SPHINX := --fail-on-warning --keep-going --fresh-env --quiet
CHECKS := lint types layers docstrings unit

.PHONY: help demo docs notebooks linkcheck test environment $(CHECKS) clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.demo ## Classify a generated fjord: map, figure, scores
	$(BIN)/csc-xr demo

docs: $(VENV)/.docs ## Build the site in docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx $(SPHINX) docs docs/_build/html
	@echo 'Open docs/_build/html/index.html'

notebooks: $(VENV)/.test ## Run the notebooks again and keep what they show
	$(BIN)/python docs/notebooks/execute.py

linkcheck: $(VENV)/.docs ## Ask every web address that the pages name (needs a network)
	$(BIN)/python -m sphinx $(SPHINX) -b linkcheck docs docs/_build/linkcheck

test: ## Run every check below, in this order, and print the time each takes
	@for check in environment $(CHECKS); do \
	    echo "== $$check"; began=$$(date +%s); \
	    $(MAKE) --no-print-directory $$check || exit 1; \
	    echo "== $$check took $$(($$(date +%s) - began)) s"; \
	done

environment: $(VENV)/.test ## Install csc_xr and what its checks need

lint: $(VENV)/.test ## Check style and format (Ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test ## Check types (mypy, strict)
	$(BIN)/mypy

layers: $(VENV)/.test ## Check that imports point down only (import-linter)
	$(BIN)/lint-imports

docstrings: $(VENV)/.test ## Check docstrings against their signatures (numpydoc)
	$(BIN)/numpydoc lint $$(find csc_xr -name '*.py')

unit: $(VENV)/.test ## Run the tests; ARGS="-k name" picks some of them
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

clean: ## Remove the environment and every cache
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf docs/_build docs/reference/api
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written last, so an install that was interrupted starts again.
$(VENV)/.demo: pyproject.toml $(VENV)/.python
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.python
	$(BIN)/python -m pip install --quiet -e '.[test,lint]'
	@touch $@ $(VENV)/.demo $(VENV)/.docs

$(VENV)/.docs: pyproject.toml $(VENV)/.python
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	@touch $@ $(VENV)/.demo

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "csc_xr needs Python 3.11 or later, and $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	    "Name another: make PYTHON=python3.11"; exit 1; } >&2
	$(PYTHON) -m venv $(VENV)
	@echo 'Installing csc_xr with TensorFlow and the geospatial libraries takes some minutes.'
	@touch $@
