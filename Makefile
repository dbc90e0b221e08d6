# Every target first makes sure that the environment is there; once it is, that costs milliseconds.
# Recipes `exec` their program: a SIGTERM that make gets must reach it, or it would stay behind as an orphan.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

# `.env` is read by the shell, as Dagster does, so that both see the same settings.
WITH_ENV = set -a; if [ -f .env ]; then . ./.env; fi; set +a;
RUN = @$(WITH_ENV) exec $(BIN)/

.DEFAULT_GOAL := help
.PHONY: help setup demo dev up drain check simulate test test-long test-release cases coverage chaos histories lint format classes lock lock-jars \
	chart bench clean dbt

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(VENV)/.jars ## create the environment and fetch the jars; the other targets do it by themselves
	@echo "Ready. Next: make demo"

demo: $(VENV)/.jars ## everything on real services, from a history to the checked result tables; then stops
	$(RUN)headrace demo $(ARGS)

dev: $(VENV)/.jars ## the platform with the web UI and a simulated shop, until Ctrl-C
	$(RUN)headrace dev $(ARGS)

up: $(VENV)/.jars ## the platform headless, until SIGINT or SIGTERM
	$(RUN)headrace up $(ARGS)

drain: $(VENV)/.jars ## let every stream catch up with Kafka, then stop
	$(RUN)headrace drain $(ARGS)

check: $(VENV)/.jars ## run the asset checks; the exit code is the verdict
	$(RUN)headrace check $(ARGS)

simulate: $(VENV)/.jars ## send simulated shop events; ARGS="--help" shows the rates
	$(RUN)headrace simulate $(ARGS)

# Two workers side by side, each with its own broker and Spark. A file is one worker's, because its tests share what
# they have set up; in the order of the folders, so that the short ones come last and both workers end together.
WORKERS ?= 2
PYTEST = exec $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

test: $(VENV)/.jars ## the tests to run before each commit; ARGS="-m unit" for one tier
	@$(PYTEST) -m "not long and not release" $(ARGS)

test-long: $(VENV)/.jars ## the tests that `make test` leaves out
	@$(PYTEST) -m long $(ARGS)

test-release: $(VENV)/.jars .venv-dbt/.packages ## whole stacks and clusters, replays killed at every step; before a release
	@$(PYTEST) -m release $(ARGS)

ROUNDS ?= 5

cases: $(VENV)/.jars ## tests with generated cases, on cases never seen before; ROUNDS=5 times, before a release
	@for round in $$(seq $(ROUNDS)); do ($(PYTEST) -m hypothesis $(ARGS)) || exit 1; done

chaos: $(VENV)/.jars ## every fault of the failure table on the real platform under load; about 45 minutes
	@exec $(BIN)/python -m tests.chaos $(ARGS)

histories: $(VENV)/.project ## the supervisor's decisions in a million random histories; about ten minutes
	@exec $(BIN)/python -m tests.unit.long_histories --histories 1000000 $(ARGS)

lint: $(VENV)/.project ## style, types and import rules
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && exec $(BIN)/lint-imports

coverage: $(VENV)/.project ## what the tests without a JVM reach, with a floor that only rises (pyproject.toml)
	@rm -rf .coverage && mkdir .coverage
	@$(BIN)/coverage run -m pytest --quiet -m unit --numprocesses 2 --no-header --durations=0 --durations-min=60 > .coverage/tests.log || \
	  { tail -30 .coverage/tests.log; exit 1; }
	@$(BIN)/coverage combine --quiet && $(BIN)/coverage report | grep TOTAL
	@$(BIN)/coverage report --format=total | $(BIN)/python -c 'import sys, tomllib; reached = int(input()); \
	  floor = tomllib.load(open("pyproject.toml", "rb"))["tool"]["coverage"]["report"]["fail_under"]; \
	  print(f"The floor can rise: set fail_under to {reached}.") if reached > floor + 1 else None; sys.exit(reached < floor)'

format: $(VENV)/.project ## fix style where a machine can
	@$(BIN)/ruff check --fix . && exec $(BIN)/ruff format .

classes: $(VENV)/.jars ## archive Spark's classes now, for an image; a platform that runs for long does it by itself
	@exec $(BIN)/python -m resources.spark.class_archive

chart: $(VENV)/.project ## render the Helm chart's value sets into deploy/helm/rendered; needs helm on the path
	@exec $(BIN)/python -m deploy.helm.render

bench: $(VENV)/.jars ## the measurements of docs and README
	@exec $(BIN)/python -m benchmarks $(ARGS)

LOCK = $(BIN)/uv pip compile --quiet pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate

dbt: .venv-dbt/.packages ## the packages of the example docs/examples/dbt, in an environment of their own

lock: $(VENV)/.project ## resolve the Python dependencies again; ARGS="--upgrade" for newer versions
	@$(LOCK) --extra dev --output-file requirements.lock $(ARGS)
	@$(LOCK) --extra build --extra otlp --constraints requirements.lock --output-file deploy/requirements.lock
	@$(subst pyproject.toml,docs/examples/dbt/requirements.in,$(LOCK)) --no-strip-extras --output-file docs/examples/dbt/requirements.lock $(ARGS)

lock-jars: $(VENV)/.project ## resolve the Maven coordinates of resources/jars.toml again
	@exec $(BIN)/python -m resources.jar_lock

clean: ## remove the environment, the caches and the platform's data (.headrace)
	@if [ -x $(BIN)/python ] && [ -f .headrace/broker/users.lock ] && ! $(BIN)/python -c 'import fcntl; \
	  fcntl.flock(open(".headrace/broker/users.lock"), fcntl.LOCK_EX | fcntl.LOCK_NB)' 2>/dev/null; then \
	  echo "The platform is running in .headrace. Stop it first (Ctrl-C), then run make clean again." >&2; exit 1; fi
	rm -rf $(VENV) .venv-dbt .headrace build *.egg-info .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment ------------------------------------------------------------------------------------------------

$(VENV)/.packages: requirements.lock
	@deploy/create_environment.sh $(VENV)
	@touch $@

$(VENV)/.project: pyproject.toml $(VENV)/.packages
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.venv-dbt/.packages: docs/examples/dbt/requirements.lock $(VENV)/.packages
	@$(BIN)/python -m venv --clear .venv-dbt
	@.venv-dbt/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

$(VENV)/.jars: resources/jars.lock $(VENV)/.project
	@$(BIN)/python -m resources.java > /dev/null
	@$(BIN)/python -m resources.jars > /dev/null
	@touch $@
