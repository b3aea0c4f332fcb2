# Two commands for a new user: `make quickstart` and `make test`. Both make their own .venv.

PYTHON ?= python3
BIN := .venv/bin
SOURCES := pyproject.toml

.PHONY: quickstart test test-slow test-lower lint clean

quickstart: .venv/.installed
	$(BIN)/llmkit run quickstart

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q

test-slow: .venv/.installed-dev
	$(BIN)/python -m pytest -q -m "slow and not gpu and not network" --durations=15

test-lower: .venv-lower/.installed
	OMP_NUM_THREADS=1 .venv-lower/bin/python -m pytest -n 2 -q

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "llmkit needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/.installed: $(SOURCES) | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/.installed-dev: $(SOURCES) | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ .venv/.installed

.venv-lower/.installed: $(SOURCES)
	$(PYTHON) -m venv .venv-lower
	$(PYTHON) tests/lower_bounds.py > .venv-lower/constraints.txt
	.venv-lower/bin/python -m pip install --quiet --upgrade pip
	.venv-lower/bin/python -m pip install --quiet --constraint .venv-lower/constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv .venv-lower build dist .pytest_cache .mypy_cache .ruff_cache
