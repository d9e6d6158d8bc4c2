# The two commands: `make run` and `make test`. Both need Python 3.11 (or newer) and make, nothing else.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN    := .venv/bin
PORT   ?= 8080
JOBS   ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev run test faults check bench format lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@$(BIN)/python -m compileall -q gateway channels  # else the first start does it
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

setup: .venv/installed ## make .venv with what running needs

setup-dev: .venv/installed-dev ## … and with what testing needs

run: setup ## start the gateway on its embedded default (PORT=8080)
	@$(BIN)/gateway serve --port $(PORT)

test: setup-dev ## run every test, in JOBS processes (0: in this one, for a debugger)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

faults: setup-dev ## inject every fault, in its long form, and print the table (SEED=… repeats a run)
	@FAULTS=long SEED=$(SEED) $(BIN)/python -m pytest tests/faults tests/router/test_simulation.py $(ARGS)

check: setup-dev ## format, lint, types, floors, templates, configuration
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/basedpyright
	@$(BIN)/lint-imports
	@$(BIN)/gateway templates check
	@$(BIN)/gateway check --config deploy/gateway.example.toml

bench: setup-dev ## measure (ARGS=--quick for the short form)
	@$(BIN)/python -m tests.bench $(ARGS)

format: setup-dev ## rewrite the code in the house style
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: ## pin dependencies anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --group build pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --group build --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock

clean: ## remove .venv and caches (never var/, where the database is)
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache
