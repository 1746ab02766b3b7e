# Clew's commands. A fresh machine needs Python 3.11 or newer, make and git; nothing else.
PYTHON ?= python3
BIN := .venv/bin
export UV_COMPILE_BYTECODE := 1
export UV_PYTHON_DOWNLOADS := never
export MLFLOW_DISABLE_TELEMETRY := true
unexport PYTHONDONTWRITEBYTECODE
unexport VIRTUAL_ENV
# In long suites a test that hangs fails alone (by default pytest-timeout ends the whole run), and
# no sooner than it would on a busy machine; tests that say how long they may take keep that.
PATIENT := -o timeout_method=signal -o timeout=1800
# File by file, so that what the tests of a file share is made once; tests/conftest.py says in which
# order. (Groups of pytest-xdist 3.8 are without effect on pytest 9.2.)
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo test test-again test-long test-services cover check format migration lock bench bench-peers browser clean

help: ## say what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

$(BIN)/uv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Clew needs Python 3.11 or newer.")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt

.venv/demo.installed: $(BIN)/uv requirements/demo.txt pyproject.toml
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --require-hashes -r requirements/demo.txt
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@

.venv/dev.installed: $(BIN)/uv requirements/dev.txt pyproject.toml
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --require-hashes -r requirements/dev.txt
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@ .venv/demo.installed

.venv/services.installed: .venv/dev.installed requirements/services.txt
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --require-hashes -r requirements/services.txt
	@touch $@

setup: .venv/dev.installed ## make .venv with everything that development needs

demo: .venv/demo.installed ## the whole loop on real data (336,776 flights)
	@$(BIN)/clew demo

test: .venv/dev.installed ## unit tests, conformance suites, journeys, house rules
	@rm -f .venv/tests.failed
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS) || { code=$$?; test $$code -ne 1 || touch .venv/tests.failed; exit $$code; }

test-again: .venv/dev.installed ## the tests that failed in the last run, one after the other
	@test -e .venv/tests.failed || { echo "The last run did not come to its end: run 'make test'."; exit 1; }
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures=none $(ARGS)

test-long: .venv/dev.installed ## the slow suites: many kills, many orders, many swaps (about an hour; ARGS='-k kills' for some)
	$(BIN)/python -m pytest -m slow $(PATIENT) $(ARGS)

test-services: .venv/services.installed ## over real PostgreSQL, S3, Redis, Kafka and Ray, which it starts; says what it skipped and why
	$(BIN)/python -m pytest tests/services $(PATIENT) $(ARGS)

cover: .venv/dev.installed ## the tests with branch coverage
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report=term:skip-covered $(ARGS)

check: .venv/dev.installed ## format, lint, types, import laws
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/dev.installed ## bring the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

migration: .venv/dev.installed ## write the migration that the tables lack (TITLE="what it is for")
	$(BIN)/python -m clew.testing.schema $(TITLE)
	@$(BIN)/ruff format --quiet src/clew/db/migrations

lock: $(BIN)/uv ## resolve requirements/*.txt anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 pyproject.toml --extra standard --extra demo -o requirements/demo.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 pyproject.toml --extra standard --extra demo --extra postgres --extra grpc --extra otel --group dev -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 pyproject.toml --extra standard --extra demo --extra postgres --extra grpc --extra otel --extra images --extra redis --extra kafka --extra ray-serve --extra spark --group dev -c requirements/dev.txt -o requirements/services.txt

bench-peers: .venv/dev.installed ## virtual environments of the peers that benchmarks compare with
	$(BIN)/python benchmarks/peers.py

bench: .venv/dev.installed ## measure against the peers (ONLY=name for one row)
	$(BIN)/python benchmarks/run.py $(if $(ONLY),--only $(ONLY))

browser: ## install headless Chromium for the page tests (Debian, as root)
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
	  || echo "No Chromium here: the page tests will be skipped."

clean: ## remove the environment and the demo's workspace
	rm -rf .venv demo-workspace
