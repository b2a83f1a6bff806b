# Each target is what a person would type; all of it runs from .venv.
PYTHON ?= python3
bin := .venv/bin
rooms := $(wildcard __main__.py zt components engine gateway lab benchmarks tests)
lock := uv pip compile --quiet --no-header --generate-hashes --universal --python-version 3.11

.PHONY: setup check test tools test-lab up down lab golden bench bench-engine lock

setup: .venv/ready  ## .venv with everything pinned, and `zt` in it

.venv/ready: requirements.txt requirements-dev.txt requirements-nca.txt pyproject.toml
	test -x $(bin)/pip || $(PYTHON) -m venv .venv
	$(bin)/pip install --quiet --require-hashes -r requirements.txt -r requirements-dev.txt
	$(bin)/pip install --quiet --no-deps --no-build-isolation --editable .
	test -x .venv/nca/bin/pip || $(PYTHON) -m venv .venv/nca
	.venv/nca/bin/pip install --quiet --require-hashes -r requirements-nca.txt
	touch $@

check: setup  ## format, lint, types, layers, and the policies themselves
	$(bin)/ruff format --check
	$(bin)/ruff check
	$(bin)/mypy $(rooms)
	$(bin)/pytest --quiet tests/test_layers.py
	$(bin)/zt check

test: setup  ## everything that Python packages alone can show
	$(bin)/pytest -n auto --dist worksteal --ignore tests/lab

tools: setup  ## programs in Go that tests and benchmarks run, built once for this machine
	$(bin)/python -m lab.tools

test-lab: tools  ## what needs root, built programs or minutes: faults, load, browsers, fuzzers
	$(bin)/pytest tests/lab

up: setup  ## the local mesh
	$(bin)/zt mesh up

down: setup
	$(bin)/zt mesh down

lab: setup  ## two real clusters with the mesh in them; needs root, Go and some of Debian's packages
	$(bin)/zt lab up

golden: setup  ## rewrite tests/golden from what is compiled now; review the diff like code
	$(bin)/pytest --quiet -n auto --golden

bench: setup
	$(bin)/python -m benchmarks.compile

bench-engine: setup  ## the evaluator beside OPA, Cerbos and Cedar; needs Go, npm and two idle cores
	$(bin)/python -m benchmarks.engine

lock:  ## pin the newest versions; needs uv
	$(lock) --upgrade requirements.in -o requirements.txt
	$(lock) requirements-engine.in -o requirements-engine.txt
	$(lock) requirements-gateway.in -o requirements-gateway.txt
	$(lock) --upgrade requirements-dev.in -o requirements-dev.txt
	$(lock) --upgrade requirements-nca.in -o requirements-nca.txt
