# Each command installs what it needs first, into .venv folders here, and needs no more than Python 3.11 (or later) with venv.
# Another interpreter: make PYTHON=/path/to/python3.12 ...

SHELL := /bin/bash
.DEFAULT_GOAL := help
export PYTHON

VENV := .venv
VENV_2_11 := .venv-airflow-2.11
SOURCES := $(shell find airflow_provider_bacalhau registry -name '*.py')

.PHONY: help
help: ## Show the commands
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/installed ## Run a DAG that chains WebAssembly jobs by CID, through Airflow, on an embedded node
	$(VENV)/bin/python example_dags/demo.py

.PHONY: test
test: $(VENV)/installed ## Run the test suite
	$(VENV)/bin/pytest -n 2 --dist loadfile

.PHONY: check
check: $(VENV)/installed ## Check format, lint, types and the directions of imports
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

.PHONY: format
format: $(VENV)/installed ## Format the code and repair what the linter can
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

.PHONY: test-airflow-2.11
test-airflow-2.11: $(VENV_2_11)/installed ## Run the Airflow part of the tests on Airflow 2.11, with the built wheel
	$(VENV_2_11)/bin/pytest -n 2 --dist loadfile tests/airflow

.PHONY: wheel
wheel: $(VENV)/installed ## Build the wheel into dist/
	rm -rf dist
	$(VENV)/bin/python -m build --wheel

.PHONY: clean
clean: ## Remove the virtual environments and everything that was built
	rm -rf $(VENV) $(VENV_2_11) dist build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The file is written last, so an interrupted installation is done again.
$(VENV)/installed: pyproject.toml .ci/venv airflow_provider_bacalhau/__init__.py
	.ci/venv $(VENV) --editable '.[devnode]' --group dev
	@touch $@

# As a user installs it: no constraints. The tree must not shadow the wheel, so pytest is started by its script, never by `python -m`.
$(VENV_2_11)/installed: $(VENV)/installed $(SOURCES)
	$(MAKE) --no-print-directory wheel
	.ci/venv $(VENV_2_11) 'apache-airflow==2.11.*' "$$(ls dist/*.whl)[devnode]" --group test --reinstall-package apache-airflow-providers-bacalhau
	@touch $@
