# Two commands from a bare clone (CPython 3.11 or newer with venv and pip): `make demo` and `make test`.
# A build of torch without CUDA is much smaller: set PIP_FLAGS to the options that PyTorch's "Get started" page names.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
PIP_FLAGS ?=
INSTALLED := .venv/.installed
BIN := .venv/bin
# One thread a test process: two processes with two threads each are slower on two cores than one thread each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

.PHONY: setup demo browser-runtime test test-slow test-gpu test-versions check docs docs-links format bench clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "This project needs Python 3.11 or newer; set it with: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"  # the first that knows --group
	$(BIN)/python -m pip install $(PIP_FLAGS) -e ".[all]" --group dev
	touch $@

demo: setup
	$(BIN)/panoptic-deeplab demo

browser-runtime: setup  # onnxruntime-web from npm into the cache of this user, for `serve --static` and its tests
	$(BIN)/python -c "from panoptic_deeplab.serving.web_runtime import fetch_runtime; fetch_runtime()"

test: setup
	$(PYTEST)

test-slow: setup
	$(PYTEST) -m slow || [ $$? -eq 5 ]  # 5 = there is no such test

test-gpu: setup
	$(BIN)/pytest -m gpu || [ $$? -eq 5 ]

test-versions:  # every interpreter that is here, and the oldest dependencies; environments of their own
	$(PYTHON) tests/project/versions.py

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell .

docs: setup
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

docs-links: setup  # addresses elsewhere; the others are checked by `make test` and `make docs`
	@$(BIN)/python -c 'import socket; socket.create_connection(("arxiv.org", 443), 10)' \
	  || { echo "This machine is offline, so links to other sites cannot be checked." >&2; exit 1; }
	$(BIN)/sphinx-build -q -b linkcheck docs docs/_build/links

bench: setup
	$(BIN)/python benchmarks/bench.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv runs docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
