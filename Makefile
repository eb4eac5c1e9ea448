# `make` lists what there is to make. PYTHON=python3.12 chooses another Python, VENV=.venv-humble another place. Where
# no ROS is sourced, WHEELS=kilted (with a VENV of its own) takes another ROS than Jazzy, WHEELS=none does without ROS.

VENV ?= .venv
BIN := $(VENV)/bin
RELEASE := .venv-release
export PYTHON WHEELS

# Nothing leaves this machine, and no two runs hear each other.
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
export ROS_DOMAIN_ID := $(shell shuf -i 1-100 -n 1)
ifeq ($(ROS_DISTRO),humble)
export ROS_LOCALHOST_ONLY := 1
endif

define HELP
  make venv           set up .venv, with ROS from wheels, with the ROS that is sourced, or with WHEELS=none
  make demo           replay a street video, or SOURCE=bag|video|folder|camera:0 (of several topics TOPIC=), through the node
  make test           check style and types, run the tests (ARGS='-k name' for some)
  make test-kilted    run the tests that need ROS on Kilted's wheels, in .venv-kilted
  make benchmark      print and store the tables of benchmark/ (ARGS='cpu overhead' for some)

For a release:
  make docs           build docs/ with Sphinx into build/docs; a warning is an error
  make lock           choose the versions of requirements/ (ARGS=--upgrade: the newest)
  make licences       list the licences of the dependencies in docs/licences.md
  make audit          ask for known vulnerabilities of the locked versions
  make audit-offline  check that what is installed is what is pinned, without a network
  make clean          remove environments, caches and what was built; results are kept
endef

.PHONY: help venv venv-dev venv-release demo test test-kilted benchmark docs lock licences audit audit-offline clean

help:
	$(info $(HELP))
	@:

# requirements/install does nothing where the environment is up to date.
venv:
	@requirements/install '$(VENV)'

venv-dev:
	@requirements/install '$(VENV)' dev

venv-release:
	@requirements/install '$(RELEASE)' release

demo: venv
	@$(BIN)/lw_refinenet demo $(if $(SOURCE),--source "$(SOURCE)") $(if $(TOPIC),--topic "$(TOPIC)") $(ARGS)

# Two processes take a file of tests at a time: many tests wait more than they compute.
IN_TWO := -n 2 --dist loadfile

# Types are checked against the versions that are pinned, not against whatever a ROS brings.
test: venv-dev
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(if $(ROS_DISTRO),,$(BIN)/mypy)
	$(BIN)/python -m pytest $(IN_TWO) $(ARGS)

# Another ROS changes little in these; they ran on Jazzy's wheels.
NOT_ON_KILTED := cli/test_demo node/test_copies node/test_faults_node node/test_faults_ending node/test_security \
  node/test_discovery_server

test-kilted:
	@WHEELS=kilted requirements/install .venv-kilted dev
	.venv-kilted/bin/python -m pytest $(IN_TWO) -m ros $(NOT_ON_KILTED:%=--ignore=test/%.py) $(ARGS)

benchmark: venv-dev
	@$(BIN)/python -m benchmark $(ARGS)

docs: venv-release
	$(RELEASE)/bin/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo build/docs/index.html

lock: venv-release
	@requirements/lock $(ARGS)

licences: venv
	@mkdir -p build
	@$(BIN)/python requirements/licences.py >build/licences.tmp && mv build/licences.tmp docs/licences.md

audit: audit-offline venv-release
	@$(RELEASE)/bin/python requirements/audit.py

audit-offline: venv-dev
	@$(BIN)/python requirements/audit.py --offline

clean:
	rm -rf '$(VENV)' .venv-kilted '$(RELEASE)' build install log *.egg-info .*_cache .hypothesis
