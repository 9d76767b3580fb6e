# Every target sets up what it needs by itself, in .venv, from Python 3.11 or newer alone.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

SDKS := $(patsubst tests/sdks/%.txt,.venv-azure/%/.made,$(wildcard tests/sdks/*.txt))

.PHONY: azurite node-sdk browser demo test test-deep check bench screenshots clean

demo: .venv/.demo  ## the whole main job on this machine, in under two minutes
	$(BIN)/farshore demo

test: .venv/.dev azurite browser $(SDKS)  ## the test suite
	$(BIN)/pytest --numprocesses 2 --dist loadgroup

test-deep: .venv/.dev azurite browser $(SDKS) node-sdk  ## the long runs too
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

# Studio is tried in Debian's Chromium, with axe-core looking for what keeps people out; fonts are for Chinese and Korean.
# Where they cannot be installed (not root, no apt, no npm), tests say what they skip.
browser:
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-noto-cjk fonts-dejavu-core \
		>/dev/null; } || echo "Chromium could not be installed: Studio is not tried in a browser"
	@test -e .axe/node_modules/axe-core || \
		npm install --prefix .axe --no-audit --no-fund --loglevel=error axe-core@4.14.1 >/dev/null || \
		echo "axe-core could not be installed: pages are not searched for barriers"

screenshots: .venv/.dev browser  ## every page of Studio, into docs/screenshots
	$(BIN)/python -m tests.e2e.studio.screenshots docs/screenshots

node-sdk:
	@test -e .node-azure/node_modules/azure-iothub -a -e .node-azure/node_modules/azure-iot-device-mqtt || \
		npm install --prefix .node-azure --no-audit --no-fund --loglevel=error \
		azure-iothub@1.16.6 azure-iot-device@1.18.4 azure-iot-device-mqtt@1.16.4 || \
		echo "Azure's SDKs for Node could not be installed: their tests are skipped"

# Azure's own SDKs, unmodified, each in an environment of its own; tests say what they skip where one cannot be made.
.venv-azure/%/.made: tests/sdks/%.txt
	@$(PYTHON) -m venv .venv-azure/$* && \
		.venv-azure/$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement $< && touch $@ || \
		echo "$< could not be installed: tests with that SDK are skipped"

clean:
	rm -rf .venv .venv-azure .azurite .node-azure .axe build src/*.egg-info
