# Everything runs in .venv, which `make venv` makes; the other targets call it first.
#   make test ARGS='-k calendar'      make demo ARGS=...      make venv PYTHON=python3.12

PYTHON ?=
ARGS ?=
BIN := .venv/bin

.PHONY: help venv test lint demo bench constraints clean

help:
	@echo "make venv         the virtual environment (PYTHON= chooses the interpreter, 3.10 to 3.13)"
	@echo "make test         all tests (ARGS= goes to pytest)"
	@echo "make lint         ruff, mypy and the import rules"
	@echo "make demo         the incident, replayed on this machine (ARGS= goes to demo/run.py)"
	@echo "make bench        what a backup costs the database (ARGS= chooses, see benchmarks/README.md)"
	@echo "make constraints  choose the newest versions of all dependencies again"
	@echo "make clean        remove what the other targets made"

venv: .venv/.ready
	@:

.venv/.ready: pyproject.toml constraints.txt .ci/venv
	@PYTHON='$(PYTHON)' sh .ci/venv

test: venv
	$(BIN)/python -m pytest $(ARGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

demo: venv
	@$(BIN)/python demo/run.py $(ARGS)

bench: venv
	@$(BIN)/python -m benchmarks $(ARGS)

constraints: venv
	UV_SYSTEM_CERTS=true $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 --extra dev \
	  --no-header --no-annotate --output-file constraints.txt pyproject.toml

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
