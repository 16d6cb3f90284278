# Everything that is done here by hand: `make` lists it.

SHELL := /bin/sh
.DEFAULT_GOAL := help
PYTHON_IN := .venv/bin/python
# Each test worker starts a PostgreSQL cluster of its own.
WORKERS ?= auto
PYTEST_ARGS ?=

.PHONY: help
help: ## List these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

.PHONY: demo
demo: .venv/installed ## Make the demo: data in app.db (kept if it is there), a backup, its drill
	@tools/demo

.PHONY: test
test: .venv/installed ## Run all tests, with coverage
	.venv/bin/pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist worksteal --cov $(PYTEST_ARGS)

# A check must not leave an app.db behind.
.PHONY: check
check: export DATABASE_URL = sqlite:///:memory:
check: .venv/installed ## Run formatter, linters, type checker and Django's own checks
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/codespell erp_backup project templates tests tools docs benchmarks *.md *.toml Makefile
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PYTHON_IN) manage.py check
	$(PYTHON_IN) manage.py makemigrations --check --dry-run

.PHONY: bench
bench: .venv/installed ## Measure the ratios of docs/architecture.md on this machine
	$(PYTHON_IN) benchmarks/run.py

.PHONY: faults
faults: export ERP_BACKUP_FAULTS = full
faults: .venv/installed ## Run the fault-injection campaign in full: every moment, every system call (long)
	.venv/bin/pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist worksteal tests/faults tests/integration tests/commands $(PYTEST_ARGS)

.PHONY: clean
clean: ## Remove what checks and tests leave; the demo's database and backups stay
	rm -rf build dist *.egg-info .coverage .coverage.* htmlcov
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find erp_backup project tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Internal: programs and Python packages.

.PHONY: system
system:
	@tools/system-packages

.venv/installed: pyproject.toml requirements.txt requirements-dev.txt | system
	@test -x $(PYTHON_IN) || "$$(tools/find-python)" -m venv .venv
	$(PYTHON_IN) -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@

.PHONY: .venv
.venv: .venv/installed
