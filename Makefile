# What people and CI type.  Everything happens in .venv, which is made on first use and again when a pyproject.toml changes.
#
#   make run                        the gateway; make run ARGS="serve --port 7000" gives it arguments
#   make test                       every test; make test ARGS="-k queue -x" gives pytest arguments
#   make lint                       ruff and mypy, as CI runs them;  make format repairs what a machine can
#   make wheels                     sdists and wheels of the core and of every plugin, into dist/
#   make servers                    real servers that this machine has (ollama, llama-server) behind the gateway
#   make clients                    real clients, installed and driven through the gateway; make clients ARGS="claude-code aider"
#   make bench-smoke               the benchmark scripts run and say what they promise to say; no speed is judged
#   make bench, make bench-peers    what Nexus costs, see docs/benchmarks.md; make bench ARGS="--beside HEAD~1" puts a commit beside it
#   make soak                       half an hour of mixed traffic: what memory and descriptors do; make soak ARGS="--minutes 5"

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PLUGINS := $(patsubst plugins/%/pyproject.toml,%,$(sort $(wildcard plugins/*/pyproject.toml)))
PACKAGES := . $(PLUGINS:%=plugins/%)
# An editable install keeps names, versions, dependencies and entry points as they were when it was made.
DESCRIBED := $(PACKAGES:%=%/pyproject.toml) nexus/__init__.py
EXAMPLES := examples/backend/echo_server.py examples/dialect/plain_server.py examples/stage/my_stages.py examples/embed/app.py

# The first that is new enough.  Looked for only when the virtual environment has to be made.
OLDEST := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,$(shell $(name) -c '$(OLDEST)' 2>/dev/null && echo $(name))))

empty :=
space := $(empty) $(empty)
PLUGIN_SOURCES := $(subst $(space),:,$(PLUGINS:%=plugins/%/src))

.DEFAULT_GOAL := help
.PHONY: help setup run test lint format wheels servers clients bench-smoke bench bench-peers bench-tools soak clean

help:
	@sed -n 's/^#   //p' Makefile

setup: $(VENV)/.run-ready

# The core depends on the stages, and every plugin on the core; none of them is on an index, so pip gets all of them at once.
# Their build tools are installed first: an isolated build environment for each would take most of the time.
$(VENV)/.run-ready: $(DESCRIBED) | $(BIN)/python
	@echo "Installing Nexus and its plugins into $(VENV) …"
	@$(PIP) install -q 'pip>=25.1'
	@$(PIP) install -q --group build
	@$(PIP) install -q --no-build-isolation $(PACKAGES:%=-e %)
	@touch $@

$(VENV)/.dev-ready: $(VENV)/.run-ready
	@echo "Installing what the tests need into $(VENV) …"
	@$(PIP) install -q --group dev
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(OLDEST)' || { echo "Nexus needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3 …" >&2; exit 1; }
	@echo "Making $(VENV) with $(PYTHON) …"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make virtual environments.  On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

ARGS ?=

run: $(VENV)/.run-ready
	@exec $(BIN)/python -m nexus $(or $(ARGS),serve)

# The tests start hundreds of processes, each of which would compile all of its modules where nothing compiled may be kept.
test bench-smoke servers: export PYTHONDONTWRITEBYTECODE :=

test: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -n auto --dist loadgroup $(ARGS)

lint: $(VENV)/.dev-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=$(PLUGIN_SOURCES):examples/backend/src:examples/dialect/src $(BIN)/mypy -p nexus $(PLUGINS:%=-p nexus_%) -p nexus_echo -p nexus_plain
	$(BIN)/mypy $(EXAMPLES)

format: $(VENV)/.dev-ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheels: $(VENV)/.dev-ready
	rm -rf dist
	set -e; for package in $(PACKAGES); do $(BIN)/python -m build --no-isolation --outdir dist $$package; done

servers: $(VENV)/.dev-ready
	$(BIN)/python -m pytest --servers tests/servers $(ARGS)

clients: $(VENV)/.dev-ready
	@$(BIN)/python -m tests.clients $(ARGS)

bench-smoke: $(VENV)/.dev-ready
	$(BIN)/python -m pytest --bench tests/test_bench_smoke.py $(ARGS)

bench: $(VENV)/.run-ready bench-tools
	PATH="$$PATH:/usr/sbin" $(BIN)/python tests/bench/run.py $(ARGS)

bench-peers: $(VENV)/.run-ready bench-tools
	PATH="$$PATH:/usr/sbin" $(BIN)/python tests/bench/run.py --peers $(ARGS)

soak: $(VENV)/.run-ready
	$(BIN)/python tests/bench/soak.py $(ARGS)

# nginx to compare with, wrk to make load with.  Where they cannot be had, the benchmark says so and does without.
bench-tools:
	@export PATH="$$PATH:/usr/sbin"; \
	missing=$$(for tool in nginx wrk; do command -v $$tool >/dev/null || echo $$tool; done); \
	test -z "$$missing" && exit 0; \
	if test "$$(id -u)" = 0; then become=; elif sudo -n true 2>/dev/null; then become="sudo -n"; else become=no; fi; \
	if test "$$become" = no || ! command -v apt-get >/dev/null; then \
		echo "Doing without:" $$missing "(installing them takes apt-get and root)"; exit 0; fi; \
	echo "Installing" $$missing "…"; \
	$$become apt-get update -qq && $$become apt-get install -y -qq --no-install-recommends $$missing >/dev/null \
		|| echo "Doing without what could not be installed of:" $$missing; \
	case "$$missing" in *nginx*) $$become systemctl disable --now nginx >/dev/null 2>&1 || true;; esac

clean:
	rm -rf $(VENV) .clients build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
