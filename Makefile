# Every target sets up what it needs by itself, in .venv, from Python 3.11 or newer alone.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

SDKS := $(patsubst tests/sdks/%.txt,.venv-azure/%/.made,$(wildcard tests/sdks/*.txt))

.PHONY: azurite demo test test-deep check bench clean

demo: .venv/.demo  ## the whole main job on this machine, in under two minutes
	$(BIN)/farshore demo

test: .venv/.dev azurite $(SDKS)  ## the test suite
	$(BIN)/pytest --numprocesses 2 --dist loadgroup

test-deep: .venv/.dev azurite $(SDKS)  ## the long runs too
	$(BIN)/pytest --numprocesses 2 --dist loadgroup -m "deep or not deep" --timeout 3600

check: .venv/.dev  ## style, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.dev  ## tables of figures; nothing is asserted
	$(BIN)/python -m benchmarks

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.demo: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[hub,onnx,litert]'
	@touch $@

.venv/.dev: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	@touch $@ .venv/.demo

# Where it cannot be installed (no npm, no network), its tests say that they are skipped.
azurite:
	@test -e .azurite/node_modules/azurite || \
		npm install --prefix .azurite --no-audit --no-fund --loglevel=error azurite@3.35.0 || \
		echo "Azurite could not be installed: tests against Blob Storage are skipped"

# Azure's own SDKs, unmodified, each in an environment of its own; tests say what they skip where one cannot be made.
.venv-azure/%/.made: tests/sdks/%.txt
	@$(PYTHON) -m venv .venv-azure/$* && \
		.venv-azure/$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement $< && touch $@ || \
		echo "$< could not be installed: tests with that SDK are skipped"

clean:
	rm -rf .venv .venv-azure .azurite build src/*.egg-info
