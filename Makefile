# Everything a checkout needs, on Python >= 3.11 and make alone. `make` lists the targets.

PYTHON ?= python3
BIN := .venv/bin
DEMO := .venv/.installed-demo
DEV := .venv/.installed-dev
LINKS := build/mypy/culling
# Without its byte code, which the first import of a module makes, torch and the others are installed in three quarters of the time.
# Where the environment forbids to write it, every process would compile all of torch anew.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip install --no-compile
# GPU=1 installs the demo's onnxruntime for CUDA. The two packages overwrite each other: the other one goes first.
DEMO_EXTRA := $(if $(GPU),cloud-gpu,cloud)
OTHER := $(if $(GPU),onnxruntime,onnxruntime-gpu)

.PHONY: help demo test lint format types imports docs unit soak clean
.DELETE_ON_ERROR:

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

demo: $(DEMO) ## play a real video through the whole loop (GPU=1 on a GPU; ARGS="--video FILE --rounds 3 ...")
	$(BIN)/culling demo $(ARGS)

# types and docs take one core for a minute, beside which the tests begin
test: lint ## run everything that must hold: style, types, import rules, docs, tests
	@$(MAKE) --no-print-directory -j 2 unit types imports docs

lint: $(DEV) ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(DEV) ## mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# mypy cannot see an editable install whose folders are renamed, so the import root is laid out in links for it;
# as a package of its own, since in a bare folder mypy takes the folder cloud/weights for the module of that name
types: $(DEV) ## check types
	@mkdir -p $(LINKS) && touch $(LINKS)/__init__.py
	@for side in common edge cloud; do ln -sfn ../../../$$side $(LINKS)/$$side; done
	$(BIN)/mypy -p culling

imports: $(DEV) ## check who may import whom
	$(BIN)/lint-imports

docs: $(DEV) ## build the documentation into build/docs; a warning is an error
	$(BIN)/sphinx-build -W --keep-going -q -b html -d build/doctrees docs build/docs

unit: $(DEV) ## run the tests (ARGS="-k spool -x ...")
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 $(ARGS)

soak: $(DEV) ## run the long form of the tests
	$(BIN)/pytest -m soak --timeout 0 $(ARGS)

clean: ## remove what was built, but not .venv
	rm -rf build dist *.egg-info .*_cache .hypothesis
	find common edge cloud tests docs examples -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv

$(DEMO): pyproject.toml constraints.txt | .venv/bin/pip
	$(BIN)/python -m pip uninstall -q -y $(OTHER)
	$(PIP) -e '.[$(DEMO_EXTRA)]' -c constraints.txt
	@touch $@

$(DEV): pyproject.toml constraints.txt | .venv/bin/pip
	$(BIN)/python -m pip uninstall -q -y onnxruntime-gpu
	$(PIP) -e '.[dev]' -c constraints.txt
	@touch $@ $(DEMO)
