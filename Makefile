# make run | test | slurm-test | verify | adopt | lint | format | docs | pins | clean
# The first two are all that a user needs: each makes .venv from the pins where it is missing.
SHELL := bash
PYTHON ?= python3
CORES ?= $(shell nproc)
BIN := .venv/bin
READY := .venv/ready
PATH := $(CURDIR)/$(BIN):$(PATH)
export PATH

.PHONY: run test slurm-test verify adopt lint format docs pins clean

run: $(READY)
	snakemake --cores $(CORES)
	@python -m kdq.report.places

test: $(READY)
	pytest

# The default study on a SLURM of one node that is started for it, with faults; SLURM_STUDY=small takes a few minutes.
SLURM_STUDY ?= default
slurm-test: $(READY)
	tests/slurm/install.sh
	pytest tests/slurm --slurm $(SLURM_STUDY) -rs

# results that were copied here, of the study STUDY="--configfile FILE ...": are they what this code would make?
verify: $(READY)
	python -m kdq.provenance.verify $(STUDY)

# ... and let the next run make again what is not, and nothing else
adopt: $(READY)
	python -m kdq.workflow.adopt $(STUDY)

lint: $(READY)
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile rules
	snakemake --lint

format: $(READY)
	ruff check --fix .
	ruff format .
	snakefmt Snakefile rules

# what is written from the code: the costs of networks, the schema and the page of all keys
docs: $(READY)
	python -m kdq.models.cost
	python -m kdq.study.config
	python -m kdq.report.columns

# the pins in requirements.txt and envs/, from pyproject.toml
pins: $(READY)
	uv pip compile pyproject.toml --all-extras --universal --generate-hashes --no-header \
		--python-version 3.11 --quiet --output-file requirements.txt
	python envs/pin.py

$(READY): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 run")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.txt
	touch $(READY)

clean:
	rm -rf .venv
