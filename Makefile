# Each command installs what it needs first, into .venv folders here, and needs no more than Python 3.11 (or later) with venv.
# Another interpreter: make PYTHON=/path/to/python3.12 ...

SHELL := /bin/bash
.DEFAULT_GOAL := help
export PYTHON

VENV := .venv
VENV_2_11 := .venv-airflow-2.11
VENV_FLOORS := .venv-floors
# The version of the wheel has not changed, its content has.
NEW_WHEEL := --reinstall-package apache-airflow-providers-bacalhau
SOURCES := $(shell find airflow_provider_bacalhau registry -name '*.py')

.PHONY: help
help: ## Show the commands
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/installed ## Run a DAG that chains WebAssembly jobs by CID, through Airflow, on an embedded node
	$(VENV)/bin/python example_dags/demo.py

.PHONY: test
test: $(VENV)/installed ## Run the test suite, but for what takes minutes
	$(VENV)/bin/pytest -n 2 --dist loadfile -m 'not long'

.PHONY: test-long
test-long: $(VENV)/installed ## Run the rest of it: kills, faults and soaks, in real processes and on a whole Airflow
	$(VENV)/bin/pytest -n 2 --dist loadfile -m long

.PHONY: reliability
reliability: $(VENV)/installed ## Measure what docs/reliability.md says, and write it down there
	rm -rf .reliability
	BACALHAU_RELIABILITY=.reliability $(VENV)/bin/pytest tests/faults
	$(VENV)/bin/python -m tests.support.reliability .reliability
	$(VENV)/bin/python docs/refresh.py

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

.PHONY: test-floors
test-floors: $(VENV_FLOORS)/installed ## Run unit and Airflow tests with the oldest dependencies that pyproject.toml allows
	$(VENV_FLOORS)/bin/pytest -n 2 --dist loadfile tests/unit tests/airflow

.PHONY: wheel
wheel: dist/built ## Build the wheel into dist/

.PHONY: clean
clean: ## Remove the virtual environments and everything that was built
	rm -rf $(VENV) $(VENV_2_11) $(VENV_FLOORS) dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .reliability
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each of these files is written last, so an interrupted installation is done again.
$(VENV)/installed: pyproject.toml .ci/venv airflow_provider_bacalhau/__init__.py
	.ci/venv $(VENV) --editable '.[devnode]' --group dev
	@touch $@

dist/built: $(VENV)/installed $(SOURCES) README.md LICENSE
	rm -rf dist
	$(VENV)/bin/python -m build --wheel --no-isolation
	@touch $@

# As a user installs it: without constraints.
$(VENV_2_11)/installed: dist/built
	.ci/venv $(VENV_2_11) 'apache-airflow==2.11.*' "$$(ls dist/*.whl)[devnode]" --group test $(NEW_WHEEL)
	@touch $@

# The test tools come second, at their newest: they are not the dependencies in question.
$(VENV_FLOORS)/installed: dist/built
	.ci/venv $(VENV_FLOORS) --resolution lowest-direct "$$(ls dist/*.whl)[devnode]" $(NEW_WHEEL)
	.ci/venv $(VENV_FLOORS) --group test
	@touch $@
