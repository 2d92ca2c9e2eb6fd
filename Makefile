# callgate: `make run` starts it, `make test` proves it. `make help` lists the rest.
# Needs Python 3.11 or newer, git and make; everything else goes into .venv and .tools.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
LOCKED := $(PIP) install --require-hashes --only-binary :all:
# One more than the two processors the tests are meant for: some of them wait.
WORKERS ?= 3
ARGS ?=

## Use

.PHONY: run
run: $(VENV)/.run  ## start `callgate serve` for callgate.toml, or for the bundled sample server (ARGS="...")
	@exec $(BIN)/callgate serve $(ARGS)

.PHONY: install
install: $(VENV)/.run  ## make .venv with callgate in it, and start nothing

## Check

.PHONY: test
test: $(VENV)/.test  ## all tests, those against other people's servers and clients included
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

.PHONY: quick
quick: $(VENV)/.test  ## only the tests that need no other programs and little time
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not slow and not network and not online" $(ARGS)

.PHONY: lint
lint: $(VENV)/.lint  ## style, types, the rooms of the house, the documents
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/check_docs.py --static
	@if [ -f .build/core/Cargo.lock ] && cargo clippy --version >/dev/null 2>&1 && cargo fmt --version >/dev/null 2>&1; then \
	  cargo fmt --manifest-path core/Cargo.toml --check && \
	  cargo clippy --quiet --release --manifest-path .build/core/Cargo.toml --target-dir .build/core/target -- -D warnings; \
	fi

.PHONY: docs
docs: $(VENV)/.test  ## check links, help blocks and examples of all documents
	$(BIN)/python tools/check_docs.py

.PHONY: fuzz
fuzz: $(VENV)/.test  ## coverage-guided fuzzing of decoder, native lane, SSE and headers; SECONDS_EACH=600 each
	$(BIN)/python -m fuzz --seconds $(or $(SECONDS_EACH),600) $(ARGS)

.PHONY: bench
bench: $(VENV)/.test  ## measure beside floors (ARGS=--full: and peers; ARGS=--write-docs: the page)
	$(BIN)/python -m bench $(ARGS)

## Keep

.PHONY: format
format: $(VENV)/.lint  ## lay out the code
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

.PHONY: lock
lock: $(VENV)/.venv  ## resolve the requirements anew, with hashes
	$(PIP) install 'uv>=0.9'
	$(BIN)/python tools/lock.py
	tools/build-native --lock

.PHONY: clean
clean:  ## remove what was built, installed and cached here
	rm -f src/callgate/_core.abi3.so
	rm -rf $(VENV) .tools .build build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help:  ## this list
	@awk 'BEGIN { FS = ":.*## " } /^## / { printf "\n%s\n", substr($$0, 4) } \
	  /^[a-z-]+:.*## / { split($$1, t, ":"); printf "  make %-9s %s\n", t[1], $$2 }' $(MAKEFILE_LIST)

# Stamps: each names the locked set that .venv holds. The package itself is installed from the checkout.

$(VENV)/.venv:
	@tools/make-venv $(VENV)
	@touch $@

$(VENV)/.native: $(VENV)/.venv $(wildcard core/src/*.rs) core/Cargo.toml core/Cargo.lock.in tools/build-native
	@tools/build-native
	@touch $@

$(VENV)/.run: $(VENV)/.venv $(VENV)/.native requirements/run.lock requirements/bubblewrap.lock pyproject.toml
	@echo "installing callgate into $(VENV)"
	@$(LOCKED) -r requirements/run.lock
	@$(PIP) install --no-deps --no-build-isolation --no-index --editable .
	@# the sandbox: the system's bubblewrap, else the one that is packaged for Python
	@if [ "$$(uname)" = Linux ] && ! command -v bwrap >/dev/null; then $(LOCKED) -r requirements/bubblewrap.lock; fi
	@touch $@

$(VENV)/.test: $(VENV)/.run requirements/test.lock tools/install-programs
	@echo "installing what the tests need"
	@tools/install-programs
	@$(LOCKED) -r requirements/test.lock
	@touch $@

$(VENV)/.lint: $(VENV)/.test requirements/lint.lock
	@echo "installing what the checks need"
	@$(LOCKED) -r requirements/lint.lock
	@touch $@
