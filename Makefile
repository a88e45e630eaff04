# Two commands on a fresh machine: `make demo` runs the main job, `make test` passes the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
only ?=

.PHONY: demo test soak bench lint types setup setup-dev milvus-server lock clean

demo: setup
	$(BIN)/python examples/multi_region_demo.py

test: setup-dev
	$(BIN)/python -m pytest

# A million hostile packets instead of a hundred thousand.
soak: setup-dev
	KINDRED_SOAK=1000000 $(BIN)/python -m pytest tests/soak

bench: setup-dev
	$(BIN)/python -m benchmarks $(only)

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup-dev
	$(BIN)/mypy

# The Milvus server that the tests start, unpacked beside the environment: 250 MB, and a minute at most.
milvus-server: build/milvus/.ready

build/milvus/.ready: requirements-milvus.lock | $(VENV)/.dev
	rm -rf build/milvus
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target build/milvus \
	  -r requirements-milvus.lock
	$(BIN)/python -m tests.engines.milvus_server
	touch $@

setup: $(VENV)/.core
setup-dev: $(VENV)/.dev

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { echo "kindred: python3 -m venv failed; on Debian: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/.core: $(BIN)/python pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(VENV)/.core $@

# The locks pin every package with its hashes; run after a change of dependencies in pyproject.toml. They are made with
# Debian's own Python: a later 3.11 would leave out what the first ones need.
lock:
	/usr/bin/python3 -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check pip-tools
	build/lock/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url \
	  --no-emit-trusted-host --no-emit-find-links --no-header --extra build --output-file requirements.lock pyproject.toml
	build/lock/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url \
	  --no-emit-trusted-host --no-emit-find-links --no-header --extra build --extra dev --output-file requirements-dev.lock pyproject.toml

clean:
	rm -rf $(VENV) build .kindred
