# `make demo` and `make test` do their own set-up in .venv; nothing needs to be installed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint clean

demo: $(VENV)/run-ready
	$(BIN)/vm run programs/matmul_w4a16.vm

# Two processes for two cores: each does its sums by itself, and takes whole files of tests, whose
# modules and compiled kernels it keeps, until it can take over from the other.
test: $(VENV)/dev-ready
	$(BIN)/ruff check .
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not gpu" $(PYTEST_ARGS)

lint: $(VENV)/dev-ready
	$(BIN)/ruff check .

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/run-ready: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/dev-ready: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,cuda,hip]'
	touch $@ $(VENV)/run-ready

clean:
	rm -rf $(VENV) build *.egg-info
