# `make demo` and `make test` do their own set-up in .venv; nothing needs to be installed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Where the packages are that write checkpoints, and torch, which they need; a CPU build of it will
# do: make test-formats TORCH="torch==2.13.0+cpu", where the package index has one.
FORMATS := .venv-formats
TORCH ?= torch

.PHONY: demo test test-formats lint clean

demo: $(VENV)/run-ready
	$(BIN)/vm run programs/matmul_w4a16.vm

# Two processes for two cores: each does its sums by itself, and takes whole files of tests, whose
# modules and compiled kernels it keeps, until it can take over from the other. Python keeps what it
# compiles beside the packages, whatever it does elsewhere: tests start it many times. Plugins are
# named, since pytest rewrites all modules of a package that brings one, and Hypothesis has a hundred.
test: $(VENV)/dev-ready
	$(BIN)/ruff check .
	OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX=$(CURDIR)/$(VENV)/bytecode \
	  $(BIN)/python -m pytest --disable-plugin-autoload -p xdist -p _hypothesis_pytestplugin \
	  -n 2 --dist worksteal -m "not gpu" $(PYTEST_ARGS)

test-formats: $(FORMATS)/ready
	$(FORMATS)/bin/python -m tests.programs.formats_against_originals

lint: $(VENV)/dev-ready
	$(BIN)/ruff check .

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/run-ready: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable .
	touch $@

$(VENV)/dev-ready: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[dev,cuda,hip]'
	touch $@ $(VENV)/run-ready

$(FORMATS)/ready: pyproject.toml
	$(PYTHON) -m venv $(FORMATS)
	$(FORMATS)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile "$(TORCH)" bitsandbytes compressed-tensors gguf --editable .
# What these two depend on is for making checkpoints; single modules of them are used.
	$(FORMATS)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps autoawq auto-gptq
# One of them installs its own tests as a package of that name, which would hide ours.
	rm -rf $(FORMATS)/lib/python*/site-packages/tests
	touch $@

clean:
	rm -rf $(VENV) $(FORMATS) build *.egg-info
