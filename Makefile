# make demo: run the main study on embedded data.  make test: all tests.  make check: style and types.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
export UV_LINK_MODE ?= hardlink

.PHONY: setup demo test check clean

setup: $(VENV)/.installed

# uv resolves and unpacks several times faster than pip; it lives in the environment itself.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable . --group dev
	touch $@

demo: setup
	$(BIN)/optimize run digits

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: setup
	$(BIN)/ruff format --check src tests studies benchmarks
	$(BIN)/ruff check src tests studies benchmarks
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
