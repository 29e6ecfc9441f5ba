# GNU Make 3.81 is enough (the one that macOS ships). `make` alone explains itself.

PY := .venv/bin/python

# The first Python there is; scripts/bootstrap.py looks for a good one itself. PYTHON=... overrides.
BOOT := $(shell for p in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v "$$p" >/dev/null 2>&1 && "$$p" -c '' >/dev/null 2>&1 && { echo "$$p"; break; }; done)

# Tests wait more than they compute: more processes than two cores. N=0 is one process, for a debugger.
N ?= 3
SPREAD := -n $(N) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup test quick chaos model mutate check demo bench bench-long bench-gate lint types imports format generate lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  Nothing to prepare: every target sets up .venv first. PYTHON=python3.12 chooses another Python."

setup: ## make .venv as locked (nothing to do when it is current)
	@if [ -z "$(BOOT)" ]; then echo "GoQueue needs Python 3.11 or newer, and there is no Python here at all." \
		"Debian/Ubuntu: apt-get install python3 python3-venv. macOS: brew install python." >&2; exit 1; fi
	@$(BOOT) scripts/bootstrap.py

test: setup ## all tests, on a PostgreSQL of their own (T="..." passes options to pytest)
	@$(PY) -m pytest tests $(SPREAD) $(T)

quick: setup ## the tests that need no PostgreSQL, under 60 s
	@$(PY) -m pytest tests -m "not slow and not postgres" $(SPREAD) $(T)

# The table of faults is also written to build/chaos.json.
chaos: setup ## the fault suite in full, under 30 minutes (GOQUEUE_CHAOS_SEED=... repeats one)
	@GOQUEUE_CHAOS_SCALE=full GOQUEUE_CHAOS_REPORT=build/chaos.json $(PY) -m pytest tests/chaos -q $(T)

model: setup ## the formal model of a lease, searched whole; variants that lack a guard must fail (needs spin and cc)
	@$(PY) -m scripts.model

mutate: setup ## drop each guard of the SQL that writes: a test must miss it, under 10 minutes (M="sweep" chooses)
	@$(PY) -m scripts.mutate $(M)

check: setup ## what CI runs: lint, types, imports, drift, the model, tests, PostgreSQL 15, PgBouncer
	@$(PY) -m scripts.check

demo: setup ## the whole thing on your Python's standard library (KEEP=1 leaves the server up)
	@KEEP=$(KEEP) $(PY) examples/stdlib_index/demo.py

bench: setup ## figures beside peers and limits, under 45 minutes (B="drain" does one; B=--help)
	@$(PY) -m bench $(B)

bench-long: setup ## those that take long: steady state, pressure, large stores, scale, memory
	@$(PY) -m bench long $(B)

bench-gate: setup ## fails if ratios with the bare loop and a peer fell below 0.85 of the recorded ones, twice
	@$(PY) -m bench gate $(B)

lint: setup ## ruff: rules and format
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check

types: setup ## mypy --strict
	@$(PY) -m mypy

imports: setup ## import directions (docs/architecture.md)
	@.venv/bin/lint-imports --no-cache

format: setup ## ruff: rewrite
	@$(PY) -m ruff check --fix
	@$(PY) -m ruff format

generate: setup ## write again all that is generated (committed; `make check` finds drift)
	@$(PY) -m scripts.generate

lock: setup ## resolve requirements/*.txt again from pyproject.toml (U=1 upgrades all)
	@$(PY) -m scripts.lock $(if $(U),--upgrade)

clean: ## remove .venv, caches and build output (not the data of `goqueue dev`)
	@rm -rf .venv .venv.lock .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
