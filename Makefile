# Every target sets itself up: a virtual environment in .venv with the pinned dependencies, made once and brought up to
# date when pyproject.toml or constraints.txt change. It takes the newest Python that works; another one: make
# PYTHON=/path/to/python3.12 ...

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
ifdef KAFKA
# The embedded Kafka of demo, up and tests: a version of ebs/local/kafka_jars/.
export EBS_KAFKA_VERSION := $(KAFKA)
endif
# Where the variable is set (many images for CI do), every new interpreter compiles all source again: `ebs --help` takes
# 1.0 s of CPU instead of 0.25 s (2026-11-28), and each of the tests' hundreds of processes pays that.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3.14 python3.13 python3.12 python3.11 python3
# Four at once on two cores, as the tests of whole systems mostly wait. Those come first: the others fill their pauses.
PYTEST := $(BIN)/python -m pytest --cost -n 4 --no-loadscope-reorder --dist
TESTS := tests/browser tests/integration tests/model tests/functional tests/unit
# A test that fails by chance does so in front of everybody: its report stays, and it must pass alone, in a new process.
again = $(if $(AGAIN),|| { [ $$? = 1 ] && echo 'what failed above runs once more and alone: FLAKY if it passes now' && \
	$(BIN)/python -m pytest -x --last-failed --last-failed-no-failures none $(1); })

# NOT in `make test`: it needs root, a Docker engine or Debian's packages for one, and five minutes.
.PHONY: help demo up docs pictures test test-faults test-pythons chromium test-compose check bench bench-engine bench-front bench-bookkeeping bench-restore bench-redrive bench-join bench-schedules bench-waiting bench-batch bench-keys chaos pin-kafka install clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo    the whole system and some objects; DEMO="--objects 500 --exit" passes arguments on'
	@echo 'make up      the whole system until Ctrl-C; UP="--partitions 4" passes arguments on'
	@echo 'make test    all tests but the long ones; TEST="tests/unit -k ledger" runs some, one after the other; AGAIN=yes: what fails runs once more'
	@echo '             KAFKA=3.9.2: on another version of Kafka, one of ebs/local/kafka_jars/ (demo and up take it, too)'
	@echo 'make test-faults  the long ones (tests/faults): kills, freezes, a broken network, and a count after each'
	@echo 'make test-pythons  the quick tests and the demo with each Python from 3.11 to 3.14 that is on this machine; PYTHONS="3.12 3.14"'
	@echo 'make test-compose  the compose stack, really built and run (Debian, root)'
	@echo 'make chromium  installs the browser of the dashboard'"'"'s tests (Debian, as root); make test does it, too'
	@echo 'make check   ruff, mypy, import-linter, what is in docker/, and the links of the documentation'
	@echo 'make docs    builds the documentation and serves it at http://127.0.0.1:8001/'
	@echo 'make pictures  draws the pictures of the dashboard in docs/pictures again (needs Chromium: make chromium)'
	@echo 'make bench   the benchmark; BENCH="--help" passes arguments on'
	@echo 'make bench-engine  the benchmark of the processing engine; BENCH="--only poison" takes a part alone'
	@echo 'make bench-front  the benchmark of the API; BENCH="--objects 100000 --only view" passes arguments on'
	@echo 'make bench-restore  how long a worker takes to restore a million rows of the ledger, and of the waiting tasks'
	@echo 'make bench-bookkeeping  CPU time of the statistics agent code, without Kafka'
	@echo 'make bench-redrive  ten thousand dead letters redriven and recounted; REDRIVE="--letters 50000" passes arguments on'
	@echo 'make bench-join  map and reduce of 10,000 objects with 20 tasks each under kills, and how soon a join starts; BENCH="--no-kills" passes arguments on'
	@echo 'make bench-schedules  1,000 schedules every second for two minutes under kills, each instant once; BENCH="--seconds 30" passes arguments on'
	@echo 'make bench-waiting  how late delays and retries start; a million delayed tasks: memory, restore after a kill; BENCH="--tasks 50000" passes arguments on'
	@echo 'make bench-batch  batches of 64 and single calls of a function with 5 ms of fixed cost a call; BENCH="--only thread" passes arguments on'
	@echo 'make bench-keys   limits by key, and what a paused kind costs others; BENCH="--only keys" passes arguments on'
	@echo 'make chaos   random kills and freezes, then a recount; CHAOS="--minutes 10" passes arguments on'
	@echo 'make pin-kafka KAFKA=4.5.0  writes the digests of a new version of the embedded Kafka'
	@echo 'make clean   removes the virtual environment and all caches, no data (.ebs, stats.db)'

demo: $(INSTALLED)
	@$(BIN)/ebs demo $(DEMO)

up: $(INSTALLED)
	@$(BIN)/ebs up $(UP)

test: $(INSTALLED)
	@case '$(TEST)' in ''|*browser*) tests/browser/install-chromium.sh;; esac
	$(if $(TEST),$(BIN)/python -m pytest $(TEST),$(PYTEST) loadfile $(TESTS) $(call again,$(TESTS)))

test-faults: $(INSTALLED)
	# One by one, as no two share a system.
	$(PYTEST) loadgroup tests/faults $(call again,tests/faults)

test-pythons: $(INSTALLED)
	@tests/pythons.sh $(PYTHONS)

chromium:
	@tests/browser/install-chromium.sh

test-compose: $(INSTALLED)
	tests/compose/install-engine.sh
	$(BIN)/python -m pytest tests/compose --timeout 900

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	docker/check.sh
	$(BIN)/zensical build --strict

docs: $(INSTALLED)
	$(BIN)/zensical build --strict
	$(BIN)/zensical serve --dev-addr 127.0.0.1:8001

pictures: $(INSTALLED)
	@tests/browser/install-chromium.sh
	PICTURES=docs/pictures CI=yes $(BIN)/python -m pytest tests/browser/test_pictures.py

bench: $(INSTALLED)
	PYTHONPATH=.:tests/support $(BIN)/python tests/bench/pipeline.py $(BENCH)

bench-engine: $(INSTALLED)
	PYTHONPATH=.:tests/support:tests/bench $(BIN)/python tests/bench/engine.py $(BENCH)

bench-restore: $(INSTALLED)
	PYTHONPATH=.:tests/support:tests/bench $(BIN)/python tests/bench/restore.py $(BENCH)

bench-front: $(INSTALLED)
	PYTHONPATH=.:tests/support:tests/bench $(BIN)/python tests/bench/front.py $(BENCH)

bench-bookkeeping: $(INSTALLED)
	PYTHONPATH=.:tests/support $(BIN)/python tests/bench/bookkeeping.py $(BENCH)

bench-redrive: $(INSTALLED)
	PYTHONPATH=.:tests/support $(BIN)/python tests/bench/redrive.py $(REDRIVE)

bench-join: $(INSTALLED)
	PYTHONPATH=.:tests/support:tests/bench $(BIN)/python tests/bench/joins.py $(BENCH)

bench-schedules: $(INSTALLED)
	PYTHONPATH=.:tests/support:tests/bench $(BIN)/python tests/bench/schedules.py $(BENCH)

bench-waiting: $(INSTALLED)
	PYTHONPATH=.:tests/support:tests/bench $(BIN)/python tests/bench/waiting.py $(BENCH)

bench-keys: $(INSTALLED)
	PYTHONPATH=.:tests/support:tests/bench $(BIN)/python tests/bench/keys.py $(BENCH)

bench-batch: $(INSTALLED)
	PYTHONPATH=.:tests/support:tests/bench $(BIN)/python tests/bench/batches.py $(BENCH)

pin-kafka: $(INSTALLED)
	PYTHONPATH=. $(BIN)/python tests/support/pin_kafka.py $(KAFKA)

chaos: $(INSTALLED)
	PYTHONPATH=.:tests/support $(BIN)/python tests/bench/chaos.py $(CHAOS)

install: $(INSTALLED)

# A name on PATH may be a stand-in that does not run (pyenv's shims), and Debian's Python cannot make an environment
# without the package python3-venv: so each is tried.
$(INSTALLED): pyproject.toml constraints.txt
	@for python in $(PYTHON); do \
	  "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null || continue; \
	  if "$$python" -c 'import ensurepip, venv' 2>/dev/null; then found="$$python"; break; fi; \
	  bare="$$python"; \
	done; \
	if [ -z "$$found" ] && [ -n "$$bare" ]; then \
	  echo "$$("$$bare" --version) cannot make a virtual environment: install the package python3-venv (apt install python3-venv)" >&2; exit 1; \
	fi; \
	if [ -z "$$found" ]; then \
	  echo 'Python 3.11 to 3.14 is needed and none of "$(PYTHON)" is one: install it, or name one with make PYTHON=...' >&2; exit 1; \
	fi; \
	if ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
	  echo "setting up $(VENV) with $$("$$found" --version), this takes a minute"; \
	  "$$found" -m venv --clear $(VENV) || exit 1; \
	fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]' || \
	  { echo 'The Python packages could not be installed (see above). The first run needs the network: set https_proxy where a proxy is between.' >&2; exit 1; }
	@touch $@

clean:
	rm -rf $(VENV) .venv-3.* build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
