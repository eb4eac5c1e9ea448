# `make` lists what there is to make. PYTHON=python3.12 chooses another Python, VENV=.venv-humble another place.

VENV ?= .venv
BIN := $(VENV)/bin

# An environment is made anew for another ROS, another Python, another place, or a Python that is gone.
MODE := $(or $(ROS_DISTRO),wheels)
READY := $(if $(wildcard $(BIN)/python),$(file <$(VENV)/.ready))
PYTHON ?= $(if $(filter $(MODE),$(firstword $(READY))),$(word 2,$(READY)))
ifneq ($(READY),$(MODE) $(PYTHON) $(CURDIR))
STALE := stale
endif
INSTALLED_FROM := $(wildcard requirements/*) setup.py setup.cfg package.xml $(STALE)

# Nothing leaves this machine, and no two runs hear each other.
ISOLATED = ROS_DOMAIN_ID=$$(shuf -i 1-100 -n 1) ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST \
  $(if $(filter humble,$(ROS_DISTRO)),ROS_LOCALHOST_ONLY=1)

.PHONY: help venv demo test clean stale

help:
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile $(if $(wildcard benchmark/__main__.py),,| grep -v benchmark) | expand -t 18

venv: $(VENV)/.ready ## set up .venv, with ROS from wheels, or with the ROS that is sourced

$(VENV)/.ready: $(INSTALLED_FROM)
	@PYTHON='$(PYTHON)' requirements/install '$(VENV)'

$(VENV)/.ready-dev: $(INSTALLED_FROM)
	@PYTHON='$(PYTHON)' requirements/install '$(VENV)' dev

demo: $(VENV)/.ready ## replay a street video, or SOURCE=bag|video|folder|camera:0, through the node
	@$(ISOLATED) $(BIN)/lw_refinenet demo $(if $(SOURCE),--source "$(SOURCE)")

# Types are checked against the versions that are pinned, not against whatever a ROS brings.
test: $(VENV)/.ready-dev ## check style and types, run the tests (ARGS='-k name' for some)
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(if $(ROS_DISTRO),,$(BIN)/mypy)
	$(ISOLATED) $(BIN)/python -m pytest $(ARGS)

ifneq ($(wildcard benchmark/__main__.py),)
.PHONY: benchmark
benchmark: $(VENV)/.ready-dev ## print and store the tables of benchmark/
	@$(ISOLATED) $(BIN)/python -m benchmark $(ARGS)
endif

clean: ## remove .venv, caches and what colcon built; results are kept
	rm -rf '$(VENV)' build install log *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
