# Each target sets up what it needs; before it only Python >= 3.11, make and pip's package index.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
COMPILED := .compiled
# One more than there are processors: some tests wait for the time that a real peer takes.
SHARED := -n $(shell expr $$(nproc) + 1) --dist worksteal
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: run test lint compiled test-compiled test-live soak fuzz bench bench-quick clean

run: $(VENV)/.run-ready ## set up, then run the service on an embedded spool
	$(BIN)/waypost serve --config examples/quickstart.toml

test: $(VENV)/.dev-ready ## set up, then run the tests that need nothing but this machine's loopback
	$(BIN)/python -m pytest $(SHARED) -m "not live"

lint: $(VENV)/.dev-ready ## style, types, and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

compiled: $(COMPILED)/.ready ## Waypost with its hot modules compiled, in .compiled; docs/howto/compile.md

test-compiled: $(COMPILED)/.ready ## the same tests, on the compiled build
	PYTHONPATH=$(CURDIR)/$(COMPILED) $(BIN)/python -m pytest $(SHARED) -m "not live"

test-live: $(VENV)/.dev-ready ## against real peers, as root; tests/live/README.md says which
	$(BIN)/python -m pytest -m live tests/live tests/soak

soak: $(VENV)/.dev-ready ## killed and stopped at random, its power cut, for SOAK_MINUTES (5); as root
	SOAK_MINUTES=$${SOAK_MINUTES:-5} $(BIN)/python -m pytest -m live tests/soak

fuzz: $(VENV)/.fuzz-ready ## a coverage-guided fuzzer on each parser, for FUZZ_SECONDS (10) each; fuzz/__init__.py
	$(BIN)/python -m fuzz --seconds $${FUZZ_SECONDS:-10}

bench: $(VENV)/.dev-ready ## all benchmarks, as root; writes docs/performance.md, prints which goals are kept
	$(BIN)/python -m bench

bench-quick: $(VENV)/.dev-ready ## the same in a third of the time
	$(BIN)/python -m bench --quick

clean:
	rm -rf $(VENV) $(COMPILED) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .run examples/.run

$(VENV)/.run-ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade "pip>=25.1"
	$(PIP) install --editable .
	touch $@

$(VENV)/.dev-ready: $(VENV)/.run-ready
	$(PIP) install --editable ".[dkim,oauth,ldap,pam,postgres,mysql,opentelemetry,tnef]"
	$(PIP) install --group dev
	touch $@

$(COMPILED)/.ready: $(VENV)/.dev-ready hatch_build.py $(shell find src/waypost -name '*.py' -o -name '*.sql')
	rm -rf $(COMPILED)
	WAYPOST_COMPILED=1 $(PIP) install --no-deps --no-build-isolation --target $(COMPILED) .
	touch $@

$(VENV)/.fuzz-ready: $(VENV)/.dev-ready
	@$(PIP) install --only-binary atheris --group fuzz || \
	  { echo "make fuzz: atheris has no wheel for $$($(BIN)/python --version); try PYTHON=python3.11"; exit 1; }
	touch $@
