# Everything runs in .venv, which `make venv` makes; the other targets call it first.
#   make test ARGS='-k calendar'      make demo ARGS=...      make venv PYTHON=python3.12

PYTHON ?=
ARGS ?=
UNATTENDED ?=
WORKERS ?= $(if $(ARGS),0,2)
EXAMPLES ?= 2000
BIN := .venv/bin

.PHONY: help venv test matrix faults kills soak fuzz lint docs demo ui gameday bench audit-dependencies constraints clean

help:
	@echo "make venv         the virtual environment (PYTHON= chooses the interpreter, 3.10 to 3.13)"
	@echo "make test         all tests (ARGS= goes to pytest; WORKERS= is how many run at a time)"
	@echo "make matrix       the tests with each Python and PostgreSQL, the newest Airflow, and Celery (ARGS= names rows)"
	@echo "make faults       thousands of faults, hours; ARGS='--seed 7 --count 50' for so many, chosen by chance"
	@echo "make kills        500 kills, 50,000 relations, long searches: what a server, a disk or a worker can do to us"
	@echo "make soak         backups and faults for five minutes, or hours (ARGS='--minutes 300'), and what leaks"
	@echo "make fuzz         what strangers may have written, and the pages' routes, for minutes (EXAMPLES= of each fuzzer)"
	@echo "make lint         ruff, mypy and the import rules"
	@echo "make docs         the documentation as a site, in build/docs; a broken link fails"
	@echo "make demo         the incident, replayed on this machine (ARGS= goes to demo/run.py)"
	@echo "make ui           Airflow's UI with two plans, backups and a live copy, until Ctrl-C (ARGS= goes to demo/ui.py)"
	@echo "make gameday      a training: live through the incident, and end it (UNATTENDED=1 without a person)"
	@echo "make bench        what a backup costs the database (ARGS= chooses, see benchmarks/README.md)"
	@echo "make audit-dependencies  whether a pinned version has a known vulnerability; needs a network"
	@echo "make constraints  choose the newest versions of all dependencies again"
	@echo "make clean        remove what the other targets made"

venv: .venv/.ready
	@:

.venv/.ready: pyproject.toml constraints.txt .ci/venv
	@PYTHON='$(PYTHON)' sh .ci/venv

test: venv
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

matrix: venv
	@$(BIN)/python -m tests.matrix $(ARGS)

faults: venv
	@$(BIN)/python -m tests.faults $(ARGS)

kills: venv
	FAULTS=full $(BIN)/python -m pytest -s tests/faults $(ARGS)

soak: venv
	@$(BIN)/python -m tests.faults.soak $(ARGS)

fuzz: venv
	BACKUP_GUARD_FUZZ=$(EXAMPLES) $(BIN)/python -m pytest tests/security tests/acceptance/test_ui_fuzz.py -k 'hostile or mutated or documents or request' $(ARGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: venv
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -d build/doctrees docs build/docs
	@echo "build/docs/index.html"

demo: venv
	@$(BIN)/python demo/run.py $(ARGS)

ui: venv
	@$(BIN)/python -m demo.ui $(ARGS)

gameday: venv
	@$(BIN)/python -m gameday $(if $(UNATTENDED),--unattended) $(ARGS)

bench: venv
	@$(BIN)/python -m benchmarks $(ARGS)

audit-dependencies: venv
	@.ci/audit-dependencies

constraints: venv
	UV_SYSTEM_CERTS=true $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 --extra dev \
	  --no-header --no-annotate --output-file constraints.txt pyproject.toml

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
