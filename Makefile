# Everything a newcomer needs is `make run` and `make test`; `make help` lists the rest.
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help install run test engines test-engines test-browser soak lint format bench lock clean dev

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

install: $(VENV)/.installed ## Set up .venv with the heliometer command

dev: $(VENV)/.dev ## Set up .venv with what tests and linters need too

run: install ## Run the service with its data in ./var
	@$(BIN)/heliometer serve

test: dev ## Run the tests (needs nothing but Python)
	scripts/test

engines: ## Start PostgreSQL, ClickHouse and RabbitMQ on loopback (scripts/engines --help)
	scripts/engines up

test-engines: dev ## Run the tests that need other programs (installs them with apt-get)
	scripts/test-engines

test-browser: dev ## Run the tests that need a browser (installs Chromium with apt-get)
	scripts/test-browser

soak: dev ## Run reliability tests into docs/reliability.md (TEST=2: one; FULL=1: at its target, for hours)
	PYTHONPATH=tests $(BIN)/python -m soak $(if $(TEST),--test $(TEST)) $(if $(FULL),--full)

lint: dev ## Check style, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: dev ## Put the code into the project's form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install ## Measure speed and size; prints a table (about 15 minutes)
	$(BIN)/python -m benchmarks

lock: ## Renew the lock files from pyproject.toml (needs uv)
	uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-header -o requirements.lock pyproject.toml
	uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-header --group dev -c requirements.lock -o requirements-dev.lock pyproject.toml
	uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-header -c requirements-dev.lock -o requirements-build.lock requirements-build.in
	uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-header -o tests/engines/clients/requirements.lock tests/engines/clients/requirements.in
	uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-header -o tests/engines/keystone/requirements.lock tests/engines/keystone/requirements.in
	uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-header -o tests/engines/libvirt/requirements.lock tests/engines/libvirt/requirements.in
	uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-header -o tests/browser/requirements.lock tests/browser/requirements.in

clean: ## Remove the environment and caches, never data
	rm -rf $(VENV) .venv-clients .venv-keystone .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "heliometer needs Python 3.11 or newer: install it, or say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

$(VENV)/.installed: requirements.lock requirements-build.lock pyproject.toml | $(VENV)/bin/python
	@echo "setting up $(VENV) (once) …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-compile --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-compile --require-hashes -r requirements-build.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-compile --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.installed
	@echo "setting up what tests need (once) …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-compile --require-hashes -r requirements-dev.lock
	@touch $@
