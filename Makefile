# make demo | test | check | bench | hld-start | hld-status. Everything lives in .venv, which is made on the way; nothing is installed outside of it.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test check bench hld-start hld-status lock clean

help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

demo: $(STAMP) ## three colonies on the same ports, until Ctrl-C
	@$(BIN)/python examples/demo.py

test: $(STAMP) ## every test that this machine can run
	@$(BIN)/python -m pytest $(ARGS)

check: $(STAMP) ## lint, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(STAMP) ## every benchmark, as tables
	@$(BIN)/python -m benchmarks all

hld-start: $(STAMP) ## HumanLayer's daemon for colonies (docs/backends.md)
	@scripts/run-hld.sh

hld-status: $(STAMP) ## whether it answers, and where
	@$(BIN)/colony backend hld status

lock: $(STAMP) ## resolves the dependencies anew: hashes, no addresses
	@$(BIN)/pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
		--upgrade --extra dev --output-file requirements.lock pyproject.toml
	@$(BIN)/python -c "import pathlib; p = pathlib.Path('build.lock.in'); p.write_text('hatchling>=1.27\neditables>=0.5\n')"
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
		--upgrade --output-file build.lock build.lock.in && rm build.lock.in

clean: ## removes .venv and caches
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

$(STAMP): pyproject.toml requirements.lock build.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: Colony needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V)"; \
		echo "hint: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "error: $(PYTHON) cannot make virtual environments"; echo "hint: sudo apt install python3-venv"; exit 1; }
	@echo "making $(VENV) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r build.lock -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
