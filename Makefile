# molts. `make up` is the main door; every target works alone on a fresh clone.
PYTHON ?= python3
VENV_PYTHON := .venv/bin/python
# What setup put into var/bin (livekit-server, and Node where the machine has none) is found by everything below.
export PATH := $(CURDIR)/var/bin:$(PATH)
.DEFAULT_GOAL := help
.PHONY: help setup setup-tests up test check format bench soak exports docs pictures clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## install everything into .venv, node_modules and var/bin; starts nothing
	@$(PYTHON) scripts/setup.py

setup-tests:
	@$(PYTHON) scripts/setup.py --tests

up: setup  ## run molts here and print a link to talk (ARGS="--without agent" passes options)
	@$(VENV_PYTHON) manage.py up $(ARGS)

test: setup-tests  ## the whole test suite (ARGS="-k words" chooses)
	@$(VENV_PYTHON) scripts/test.py $(ARGS)
	@npm test --silent

check: setup  ## format, lint, types, migrations, OpenAPI, requirements
	@$(VENV_PYTHON) scripts/check.py

format: setup  ## rewrite the files in the house format
	@$(VENV_PYTHON) -m ruff check --fix --quiet . ; $(VENV_PYTHON) -m ruff format .

bench: setup-tests  ## benchmarks against named peers
	@$(VENV_PYTHON) -m pytest tests/bench -m bench -s $(ARGS)

soak: setup-tests  ## what proves at length: kills, thousands of turns, every size and language; hours
	@$(VENV_PYTHON) -m pytest tests -m soak -s $(ARGS)

exports: setup  ## rewrite openapi.yaml, requirements.txt, the option tables of docs/ and the page's types of events from their sources
	@$(VENV_PYTHON) scripts/check.py --write

docs: setup  ## build the documentation and show it on this machine; Ctrl-C ends it
	@$(VENV_PYTHON) scripts/docs.py

pictures: setup-tests  ## take the pictures of docs/ anew
	@$(VENV_PYTHON) -m scripts.characters
	@$(VENV_PYTHON) -m pytest tests/e2e/test_pictures.py tests/avatars/engines/test_pictures.py -m pictures -q $(ARGS)

clean:  ## remove what setup installed and built; keeps your data in var/
	rm -rf .venv node_modules static/dist var/bin var/stamps var/logs/setup .mypy_cache .ruff_cache .pytest_cache
