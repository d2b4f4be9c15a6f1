# What one does with Atelier from a checkout. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

SERVERS := postgres redis-server nginx setpriv
S3RVER := build/s3rver
OLD_CLIENT := build/dify-client
JS_CLIENTS := build/clients-js
# One thread for each engine: several that want all processors stand in each other's way, and spin. And hundreds of
# processes are started: they keep what they compile, whatever the environment says.
EACH := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=
# They run whole clusters: beside others they would measure those.
ALONE := $(addprefix tests/chaos/,test_a_bad_day.py test_cluster.py test_matrix.py)
GRAPHON := build/graphon

.DEFAULT_GOAL := help
.PHONY: help run cluster test check chaos-mutants soak bench bench-diffusion gallery docs clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: $(STAMP) ## Serve, and make a first picture; ONCE=1 stops after it
	@$(BIN)/atelier quickstart $(if $(ONCE),--once)

cluster: $(STAMP) ## Serve with PostgreSQL, Redis, two API processes, two workers and nginx; OPTIONS="--port 8080 --workers 1"
	@sh .ci/debian.sh $(SERVERS)
	@$(BIN)/atelier cluster $(OPTIONS)

test: $(STAMP)-dev ## Run all the tests, three files at a time but for those that keep a machine busy; Debian packages they need are installed
	@sh .ci/debian.sh curl faketime npm $(SERVERS)
	@test -x $(S3RVER)/node_modules/.bin/s3rver || npm install --silent --no-fund --no-audit --prefix $(S3RVER) s3rver@3.7.1
	@test $(JS_CLIENTS)/node_modules/.package-lock.json -nt tests/clients/package.json || { mkdir -p $(JS_CLIENTS) && cp tests/clients/package.json $(JS_CLIENTS)/ && npm install --silent --no-fund --no-audit --prefix $(JS_CLIENTS); }
	@test -d $(OLD_CLIENT)/dify_client || $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target $(OLD_CLIENT) dify-client==0.1.10
	@test -x $(GRAPHON)/bin/python || PYTHON=$(PYTHON) sh .ci/graphon.sh $(GRAPHON)
ifdef TESTS
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(TESTS)
else
	@$(EACH) $(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ALONE:%=--ignore %)
	@$(EACH) $(BIN)/python -m pytest $(ALONE)
endif

chaos-mutants: $(STAMP)-dev ## Break Atelier on purpose: the chaos tests must notice each of the mutants
	@sh .ci/debian.sh faketime $(SERVERS)
	@$(BIN)/python -m tests.chaos.mutants

soak: $(STAMP)-dev ## A bad day of any length: RUNS=5000 SEED=7
	@sh .ci/debian.sh faketime $(SERVERS)
	@ATELIER_CHAOS_RUNS=$(or $(RUNS),3000) ATELIER_CHAOS_SEED=$(or $(SEED),0) $(BIN)/python -m pytest -s tests/chaos/test_a_bad_day.py

check: $(STAMP)-dev ## Lint, types, import rules, migrations
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@scratch=$$(mktemp -d) && ATELIER_DATA_DIR=$$scratch $(BIN)/atelier db check; status=$$?; rm -rf $$scratch; exit $$status

bench: $(STAMP)-dev ## Print the README's numbers, each a ratio measured side by side
	@test -x $(GRAPHON)/bin/python || PYTHON=$(PYTHON) sh .ci/graphon.sh $(GRAPHON)
	@$(BIN)/python -m bench

gallery: $(STAMP) ## Paint the pictures of docs/gallery.md again; takes some minutes
	@$(BIN)/python -m bench.gallery

bench-diffusion: $(STAMP)-dev ## Print the engine's numbers beside plain diffusers'; PARTS="alone crowds", DEVICE=cuda
	@$(BIN)/python -W ignore -m bench.diffusion $(if $(DEVICE),--device $(DEVICE)) $(PARTS)

docs: $(STAMP) ## Write the pages that are made from the code: docs/errors.md, docs/dialects.md and docs/settings.md
	@$(BIN)/python -m app.api.documents.errors
	@$(BIN)/python -m app.api.documents.dialects
	@$(BIN)/python -m app.api.documents.settings

clean: ## Remove the virtual environment and what was built; data stays
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Atelier needs Python 3.11 or newer as $(PYTHON); set PYTHON=/path/to/python3.11." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "Python's venv module is missing: apt install python3-venv (or your system's package)." >&2; exit 1; }
	@$(PYTHON) .ci/room.py
	@echo "Installing into $(VENV); the first time takes a minute or two."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt "torch==2.13.0"
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[worker]"
	@touch $@

$(STAMP)-dev: $(STAMP)
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[worker,dev]"
	@touch $@
