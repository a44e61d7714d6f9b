# make demo: dog.wav from a prompt.   make test: the tests.   make lint: ruff.   make clean: forget .venv.
# make tables: trains and measures what the papers' tables compare, and writes docs/results.md; it resumes.
# make bench: measures everything beside its peers and writes docs/benchmarks.md; BENCH_ARGS=--resume goes on.
# PYTHON is any Python from 3.10 to 3.13. PIP_ARGS goes to pip, for instance to name an index of CPU wheels.
PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
# Trainings at a time, each on one core; and more options of training/reproduce_tables.py, such as --data FOLDER.
JOBS ?= 2
TABLES_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_ARGS)

.PHONY: demo test lint tables bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/star-hf generate "a dog barking" --seconds 5 --seed 0 --output dog.wav

test: $(VENV)/.installed-for-tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

tables: $(VENV)/.installed-for-tests
	$(BIN)/python training/reproduce_tables.py --jobs $(JOBS) $(TABLES_ARGS)

bench: $(VENV)/.installed-for-tests
	$(BIN)/python benchmarks/bench.py $(BENCH_ARGS)

clean:
	rm -rf $(VENV)

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || \
		{ echo "Python 3.10 to 3.13 is needed: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

# PyTorch by itself and first, so that no other requirement chooses its build.
$(VENV)/.torch: $(VENV)/.created constraints.txt
	$(INSTALL) torch
	touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	$(INSTALL) --editable .
	touch $@

$(VENV)/.installed-for-tests: $(VENV)/.torch pyproject.toml
	$(INSTALL) --editable ".[train,eval,demo,dev]"
	touch $@ $(VENV)/.installed
