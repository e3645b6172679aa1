# Everything runs in .venv, with the versions of the lock files. Paths are relative, so that the name of the
# checkout's directory may contain spaces.

VENV := .venv
PY   := $(VENV)/bin/python
PIP  := $(PY) -m pip --disable-pip-version-check --quiet
UV   := .venv-lock/bin/uv

# Another interpreter: make install PYTHON=python3.12
PYTHON ?=
# Passed to the command behind demo, test, test-all, bench and soak: make test ARGS="-k ledger"
ARGS ?=

# In parallel, a module at a time: what a module prepares is prepared once. One process: ARGS="-n 0". Bytecode is kept
# whatever the environment says, for the tests start hundreds of processes.
PYTEST := PYTHONDONTWRITEBYTECODE= $(PY) -m pytest -n auto --dist loadscope --no-loadscope-reorder --durations=10

.DEFAULT_GOAL := help
.PHONY: help install dev demo test test-all lint format docs bench soak lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.runtime ## create .venv with tidemark and its demo
	@echo "ready: $(VENV)/bin/tidemark --help"

dev: $(VENV)/.dev ## the same, plus the test and lint tools
	@echo "ready: make test, make lint"

demo: $(VENV)/.runtime ## install, then run the demo: embedded broker, real data, worker, console
	@$(VENV)/bin/tidemark demo $(ARGS)

test: $(VENV)/.dev ## install the test tools, then run the quick tests, in a few minutes
	@$(PYTEST) --part=quick $(ARGS)

test-all: $(VENV)/.dev ## run the rest: on Apache Kafka, the slow ones, the laws with many examples
	@$(PYTEST) --part=rest $(ARGS)

lint: $(VENV)/.dev ## check style, format, types and layers
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports --no-logo

format: $(VENV)/.dev ## fix what can be fixed automatically, and format
	@$(PY) -m ruff check --fix-only .
	@$(PY) -m ruff format .

docs: $(VENV)/.dev ## generate docs/metrics.md and the dashboards
	@$(PY) -m streams.metrics.docs docs/metrics.md
	@$(PY) -m config.dashboards config/grafana/dashboards

bench: $(VENV)/.dev ## measure speed, latency, memory and recovery: make bench ARGS="latency" selects one
	@$(PY) -m tests.bench $(ARGS)

soak: $(VENV)/.dev ## run half an hour of load with faults on Apache Kafka: make soak ARGS="--minutes 5"
	@$(PY) -m tests.kafka.soak $(ARGS)

lock: $(UV) ## resolve the lock files from pyproject.toml again
	@$(call compile,requirements-dev.lock,--upgrade --extra dev)
	@cp requirements-dev.lock requirements.lock
	@$(call compile,requirements.lock,--extra demo)
	@cp requirements-dev.lock requirements-runtime.lock
	@$(call compile,requirements-runtime.lock)

clean: ## remove .venv, caches and build output
	@rm -rf $(VENV) .venv-lock build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache \
	    .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One resolution for every platform and every Python from 3.11 on. uv prefers the versions of an existing lock, so the
# smaller locks start as copies of the largest: the installed versions are the tested ones.
define compile
echo "resolving $(1)"; $(UV) pip compile pyproject.toml $(2) --output-file $(1) --quiet --universal \
    --python-version 3.11 --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
endef

$(VENV)/.created:
	@python=; \
	for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	        python=$$candidate; break; \
	    fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "tidemark needs Python 3.11 or newer; found: $$($(or $(PYTHON),python3) --version 2>&1 | head -n 1)." >&2; \
	    echo "Install one, or name it: make install PYTHON=/path/to/python3.11" >&2; \
	    exit 1; \
	fi; \
	echo "creating $(VENV) with $$("$$python" --version)"; \
	rm -rf $(VENV); \
	"$$python" -m venv $(VENV) || { \
	    echo "Python could not create $(VENV); on Debian and Ubuntu install its python3-venv package." >&2; exit 1; }
	@touch $@

$(VENV)/.runtime: requirements.lock pyproject.toml $(VENV)/.created
	@echo "installing requirements.lock and tidemark into $(VENV)"
	@$(PIP) install --requirement requirements.lock
	@$(PIP) install --no-deps --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml $(VENV)/.created
	@echo "installing requirements-dev.lock and tidemark into $(VENV)"
	@$(PIP) install --requirement requirements-dev.lock
	@$(PIP) install --no-deps --editable .
	@touch $(VENV)/.runtime $@

$(UV): $(VENV)/.created
	@echo "installing uv into .venv-lock"
	@$(PY) -m venv .venv-lock
	@.venv-lock/bin/python -m pip --disable-pip-version-check --quiet install uv
	@touch $@
