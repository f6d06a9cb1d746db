# Each target sets up what it needs; before it only Python >= 3.11, make and pip's package index.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: run test lint test-live bench clean

$(VENV)/.run-ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.dev-ready: $(VENV)/.run-ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	touch $@

run: $(VENV)/.run-ready ## set up, then run the service on an embedded spool
	$(BIN)/waypost serve --config examples/quickstart.toml

test: $(VENV)/.dev-ready ## set up, then run the tests
	$(BIN)/python -m pytest -n auto

lint: $(VENV)/.dev-ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

test-live: $(VENV)/.dev-ready ## against real peers; tests/live/README.md says which
	$(BIN)/python -m pytest -m live tests/live

bench: $(VENV)/.dev-ready
	$(BIN)/python -m bench.relay

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
