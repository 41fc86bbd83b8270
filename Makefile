# Everything is done from here, on a machine with Python 3.11, make, git and a C compiler.
# Each target first makes what it needs: the environment in .venv from the pinned requirements,
# and the explorer. Stamps in .venv keep that to nothing while the inputs stay as they are.

PYTHON ?= $(firstword $(foreach python,python3.11 python3 python3.12 python3.13 python3.14,$(shell \
	$(python) -c 'import sys; sys.version_info >= (3, 11) and print("$(python)")' 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
COMPILE := $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url \
	--no-emit-find-links --python-version 3.11 --universal

PROJECTS := pyproject.toml client/pyproject.toml
SERVER := $(VENV)/server.stamp
TOOLS := $(VENV)/tools.stamp
# Training libraries beside the tools, so that no other target sees them. torch is pinned here and not in the lock:
# which of its builds fits, for which accelerator and of what size, is for the machine to say.
ADAPTERS := $(VENV)/adapters
TORCH := torch==2.13.0
# How much chaos, and where: CHAOS="chaos and not kubernetes", say.
KILLS ?= 50
JOBS ?= 100
CHAOS ?= chaos
EXPLORER := graph/static/index.html
EXPLORER_SOURCES := $(shell find graph/explorer -name node_modules -prune -o -type f -print)

# Four processes of tests, and those they start, would each compile every file anew.
unexport PYTHONDONTWRITEBYTECODE

.DELETE_ON_ERROR:
.PHONY: help demo serve test test-slow test-docker test-kubernetes chaos test-adapters lint bench schema explorer requirements

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(SERVER) $(EXPLORER) ## a server with example runs, to look at
	$(BIN)/rungraph demo

serve: $(SERVER) $(EXPLORER) ## the server, on 127.0.0.1:8000
	$(BIN)/rungraph serve

test: $(TOOLS) $(EXPLORER) ## the tests, without the slow ones
	$(BIN)/pytest

test-slow: $(TOOLS) $(EXPLORER) ## the slow tests, and those by example with all of their examples
	$(BIN)/pytest -m "(slow or hypothesis) and not docker and not kubernetes" --hypothesis-profile=whole

test-docker: $(TOOLS) ## the tests with the Docker engine that DOCKER_HOST names
	$(BIN)/pytest -m "docker and not chaos" -n 2

test-kubernetes: $(TOOLS) ## the tests with the disposable cluster that RUNGRAPH_TEST_KUBECONFIG leads to
	$(BIN)/pytest -m "kubernetes and not chaos" -n 2

chaos: $(TOOLS) ## servers and what they stand on are killed KILLS times while JOBS jobs run; prints a table
	$(BIN)/pytest -m "$(CHAOS)" -n 0 tests/chaos --kills $(KILLS) --jobs $(JOBS)

test-adapters: $(ADAPTERS)/stamp ## the adapters with the real training libraries, which it installs (1.4 GB)
	RUNGRAPH_TEST_REQUIRE=adapters $(ADAPTERS)/bin/python -m pytest -n 2 tests/client/adapters

lint: $(TOOLS) ## style, types, import directions, and that schema.graphql is what the code says
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m graph.schema --check

bench: $(TOOLS) ## the numbers of tests/bench, beside the limits they are compared with
	$(BIN)/python -m tests.bench

schema: $(SERVER) ## write schema.graphql from the code
	$(BIN)/python -m graph.schema --write

explorer: $(EXPLORER) ## the explorer page, into graph/static

requirements: $(SERVER) ## pin the requirements anew; UPGRADE=1 takes newer versions where they fit
	$(COMPILE) $(if $(UPGRADE),--upgrade) $(PROJECTS) --extra cli -o requirements.txt
	$(COMPILE) $(if $(UPGRADE),--upgrade) $(PROJECTS) --extra cli --extra docker --extra kubernetes --extra redis \
		-c requirements.txt -o requirements-image.txt
	$(COMPILE) $(if $(UPGRADE),--upgrade) --group test -c requirements.txt -o requirements-test.txt
	echo torch | $(COMPILE) $(if $(UPGRADE),--upgrade) --group adapters -c requirements.txt -c requirements-test.txt \
		--excludes /dev/stdin -o requirements-adapters.txt
	$(COMPILE) --no-annotate graph/explorer/requirements.in -o graph/explorer/requirements.txt

# pyvenv.cfg, because bin/python is a link and as old as what it points to.
$(VENV)/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; say which: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(SERVER): requirements.txt $(PROJECTS) | $(VENV)/pyvenv.cfg
	$(PIP) install --require-hashes -r requirements.txt
	$(PIP) install --no-deps -e . -e client
	@touch $@

$(TOOLS): requirements-test.txt $(SERVER)
	$(PIP) install --require-hashes -r requirements-test.txt
	@touch $@

$(ADAPTERS)/stamp: requirements-adapters.txt $(TOOLS)
	$(BIN)/python -m venv $(ADAPTERS)
	tools=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
		own=$$($(ADAPTERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
		echo "import site; site.addsitedir('$$tools')" > "$$own/tools.pth"
	$(ADAPTERS)/bin/python -m pip --disable-pip-version-check --quiet install $(TORCH)
	$(ADAPTERS)/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --require-hashes -r $<
	@touch $@

$(EXPLORER): $(EXPLORER_SOURCES) | $(VENV)/pyvenv.cfg
	graph/explorer/build.sh $(VENV)
	@touch $@
