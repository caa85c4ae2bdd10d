# make demo | test | lint | docs | bench; each first makes .venv with pinned dependencies. Only that step needs a network.
PYTHON ?= python3
PIP_ARGS ?=
ARGS ?=
BIN := .venv/bin
READY := .venv/.ready
export OMP_NUM_THREADS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: demo test lint docs bench setup

demo: $(READY)
	$(BIN)/counterscan demo $(ARGS)

# Two processes with one thread each: two threads that share two cores with another process wait for one another.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(ARGS)

lint: $(READY)
	$(BIN)/ruff check src tests docs examples bench
	$(BIN)/ruff format --check src tests docs examples bench
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python docs/write_cli.py
	$(BIN)/python docs/write_results.py
	$(BIN)/python docs/write_tables.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_docs.py tests/test_claims.py $(ARGS)

# phantoms are drawn by processes whose BLAS would otherwise have several threads each, that wait for one another
bench: $(READY)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python bench/run.py $(ARGS)

setup: $(READY)

$(READY): pyproject.toml constraints/cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'error: counterscan needs Python 3.11 or newer; run: make $(MAKECMDGOALS) PYTHON=python3.11'; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet $(PIP_ARGS) -c constraints/cpu.txt -e '.[test,onnx,dicom,itk,web]'
	@touch $(READY)
