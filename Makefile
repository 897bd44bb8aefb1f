# make run | why | export | compress | test | test-all | slurm-test | verify | adopt | lint | format | docs | pins | site | clean
# The first two are all that a user needs: each creates .venv from the pins if it is missing.
SHELL := bash
PYTHON ?= python3
CORES ?= $(shell nproc)
BIN := .venv/bin
READY := .venv/ready
PATH := $(CURDIR)/$(BIN):$(PATH)
export PATH

.PHONY: run why export compress test test-all slurm-test verify adopt lint format docs pins site clean

run: $(READY)
	snakemake --cores $(CORES)

# What would the next run of the study STUDY="--configfile FILE ..." make, and which file or key has changed?
why: $(READY)
	@snakemake --dry-run --quiet $(STUDY)

# A folder to give away, with model.onnx and a model card: make export RECIPE=teacher/kd/gpfq,activations=8,bits=4
DATASET ?= digits
SEED ?= 0
FOLDER = results/$(DATASET)/seed=$(SEED)/$(RECIPE)/hub
export: $(READY)
	@test -n "$(RECIPE)" || { echo "RECIPE: missing, expected for example RECIPE=teacher/kd/gpfq,bits=4" >&2; exit 2; }
	snakemake --cores $(CORES) "$(FOLDER)/README.md" $(STUDY)
	@echo "$(FOLDER)"

# The smallest model within MAX_DROP points of a float network: make compress DATA=images MODEL=folder MAX_DROP=1
MAX_DROP ?= 1
SURE ?= 0.5
compress: $(READY)
	@python -m kdq.workflow.compress --data "$(DATA)" --model "$(MODEL)" --max-drop "$(MAX_DROP)" --sure "$(SURE)" \
		--image-size "$(IMAGE_SIZE)" --name "$(NAME)" --cores $(CORES)

# A file's tests share a worker. Without --no-loadscope-reorder the longest files would run last (tests/conftest.py).
PARALLEL := --numprocesses $(CORES) --dist loadfile --no-loadscope-reorder

# minutes: everything but long trainings, disturbed studies and most runs of Snakemake
test: $(READY)
	pytest $(PARALLEL) -m "smoke or not (slow or workflow or faults or slurm)"

test-all: $(READY)
	pytest $(PARALLEL) -m "not slurm"

# The default study, with faults, on a SLURM cluster of one node, started for it; SLURM_STUDY=small takes a few minutes.
SLURM_STUDY ?= default
slurm-test: $(READY)
	tests/slurm/install.sh
	pytest tests/slurm --slurm $(SLURM_STUDY) -rs

# Are copied results of the study STUDY="--configfile FILE ..." what this code would make?
verify: $(READY)
	python -m kdq.provenance.verify $(STUDY)

# ... and let the next run remake those that are not, and nothing else
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

# what is written: the costs of networks, the schema, the page of all keys, the tables in the pages on results
docs: $(READY)
	python -m kdq.models.cost
	python -m kdq.study.docs
	python -m kdq.report.docs
	python -m kdq.report.pages

# pin the dependencies of pyproject.toml in requirements.txt and envs/
pins: $(READY)
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --generate-hashes --no-header \
		--python-version 3.11 --quiet --output-file requirements.txt
	$(BIN)/uv pip compile --group site --constraint requirements.txt --universal --generate-hashes --no-header \
		--python-version 3.11 --quiet --output-file envs/site.txt
	python envs/pin.py

# the pages as a web site, in site/
site: $(READY)
	python -m pip install --quiet --require-hashes --requirement envs/site.txt
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet --site-dir site
	@echo site/index.html

# CPU=1: PyTorch's own CPU builds of the pinned versions, without CUDA; uv knows where PyTorch keeps them
CPU ?=
ifeq ($(CPU),)
INSTALL = $(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.txt
else
INSTALL = $(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement <($(BIN)/python envs/pin.py --cpu) && \
	{ $(BIN)/uv pip install --quiet --python $(BIN)/python --torch-backend cpu --requirement <($(BIN)/python envs/pin.py --cpu torch) || \
	{ echo "CPU=1: the CPU builds of PyTorch's own index can't be installed, expected a network that reaches it; \`make run\` takes PyPI's builds with CUDA" >&2; exit 2; }; }
endif

$(READY): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 run")'
	$(PYTHON) -m venv .venv
	$(INSTALL)
	touch $(READY)

clean:
	rm -rf .venv
