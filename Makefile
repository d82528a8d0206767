# Two commands do everything, set-up included: `make demo` and `make test`. Both make and reuse .venv.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all lint types docs stubs drawings clean

demo: .venv/installed
	$(BIN)/cnnzoo demo

# A process for each of up to four processors, with one thread: most tests are too small to share out.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test: .venv/installed
	$(PYTEST) -m "not slow"

test-all: .venv/installed
	$(PYTEST)

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: .venv/installed
	$(BIN)/pyright

docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The types of `create` and `load_pretrained`, after a network was added or its arguments changed.
stubs: .venv/installed
	$(BIN)/python -m cnnzoo._stubs

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev,docs,bench,captcha,plot,draw,onnx,openvino]"
	touch $@

# The drawing that the README shows.
drawings: .venv/installed
	$(BIN)/python -m cnnzoo draw lenet5 --classic --out docs/assets/drawings/lenet5.svg

clean:
	rm -rf .venv build dist site .pytest_cache .ruff_cache .hypothesis
