# make help says what there is. Needs only Python 3.11 or newer and make: the environment is made in .venv by pip,
# from the locked requirements. `make PYTHON=python3.12 test` picks the interpreter.

PYTHON ?= python3
STUDY ?= studies/ascend_generations.toml

RUNS := tests/published
VENV := .venv
BIN := $(VENV)/bin
# 3.11 and so on; empty when $(PYTHON) does not run.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
LOCKS := $(sort $(wildcard requirements/py3*.txt))
# The lock of this Python; a Python newer than every lock takes the newest.
LOCK := $(or $(filter requirements/py$(subst .,,$(VERSION)).txt,$(LOCKS)),$(lastword $(LOCKS)))
# Stamps, each written last by its rule: a set-up that was interrupted leaves none, and starts afresh next time.
LOCKED := $(VENV)/.locked-$(VERSION)
READY := $(VENV)/.ready-$(VERSION)
AUDIT := $(VENV)-audit
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help run test soak check bench calibrate figures lock clean venv

help: ## say what there is
	@sed -n 's/^\([a-z]*\):[^#]*## /  make \1	/p' Makefile

run: $(READY) ## run the study of the Ascend generations; STUDY=... runs another
	$(BIN)/sweep run $(STUDY)

test: $(READY) ## run every test but those that take minutes
	$(BIN)/python -m pytest -q -rs -n 2 --dist worksteal

soak: $(READY) ## run the tests that take minutes
	$(BIN)/python -m pytest -q -rs -m soak

check: $(READY) ## lint, format, types, layering, dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/contracts/test_layering.py
	@test -e $(AUDIT)/.ready || { $(PYTHON) -m venv $(AUDIT) && $(AUDIT)/bin/python -m pip --disable-pip-version-check --quiet --retries 1 --timeout 10 install pip-audit && touch $(AUDIT)/.ready; } || echo "pip-audit could not be installed" >&2
	$(BIN)/python requirements/audit.py $(AUDIT)/bin/python

bench: $(READY) ## measure, one JSON object a line
	@$(BIN)/python -m benchmarks

# Operators first, as training takes theirs; then training, whose chips serving takes; then what predictions err by.
calibrate: $(READY) ## fit to measured operators and published runs, and write the catalogue; CHECK=1 only compares
	$(BIN)/python -m sweep.calibration $(if $(CHECK),--check)
	$(BIN)/python -m sweep.fit $(RUNS)/training_cases.jsonl $(if $(CHECK),--check)
	$(BIN)/python -m sweep.engine_fit $(RUNS)/serving_cases.jsonl $(if $(CHECK),--check)
	$(BIN)/python -m sweep.residuals $(wildcard $(RUNS)/*.jsonl) $(if $(CHECK),--check)

venv: $(READY) ## only make the environment

figures: $(READY) ## draw the pictures of the README and the docs anew; needs playwright and a Chromium
	$(BIN)/python docs/figures/gallery.py

lock: ## resolve the locked requirements again, UPGRADE=1 to the newest releases
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip --disable-pip-version-check --quiet install uv
	PATH="$(CURDIR)/$(VENV)-lock/bin:$$PATH" $(VENV)-lock/bin/python requirements/lock.py $(if $(UPGRADE),--upgrade)
	rm -rf $(VENV)-lock

clean: ## remove the environment and the caches, never the results in runs/
	rm -rf $(VENV) $(VENV)-lock $(AUDIT) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(LOCKED): $(LOCK)
	@test -n "$(VERSION)" || { echo "No Python runs as '$(PYTHON)': install Python 3.11 or newer, or name one, as in: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, and '$(PYTHON)' is $(VERSION): name a newer one, as in: make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "Setting up $(VENV) with Python $(VERSION) from $(LOCK): half a minute or more" >&2
	@rm -f $(VENV)/.locked-* $(VENV)/.ready-*
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes --only-binary :all: -r $(LOCK)
	@touch $@

$(READY): $(LOCKED) pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@
