# The course's commands; `make` alone lists them. `make lab` and `make test` do the whole set-up on a fresh clone.
# Another Python: `make lab PYTHON=python3.12`. Programs are called as `python -m …`, because the scripts that pip
# installs do not start from a folder with spaces in its name.

PYTHON ?= python3
VENV_PYTHON := .venv/bin/python
INSTALLED := .venv/installed

.DEFAULT_GOAL := help
.PHONY: help lab test notebooks lessons stamp reference html lint bench growth profile bill faults stress test-backends test-versions

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 23

lab: $(INSTALLED) ## open JupyterLab on lesson 01
	$(VENV_PYTHON) -m jupyterlab notebooks/01_autoencoder.ipynb

test: $(INSTALLED) ## run all tests and re-execute every notebook
	$(VENV_PYTHON) -m pytest

notebooks: lessons ## re-execute the notebooks and store their outputs
	$(VENV_PYTHON) tools/execute.py

lessons: $(INSTALLED) ## collect the definitions of the notebooks into course_utils/lessons.py
	$(VENV_PYTHON) tools/export_lessons.py

stamp: $(INSTALLED) ## write the repository's address and the table of lessons where they belong
	$(VENV_PYTHON) tools/stamp.py

reference: $(INSTALLED) ## measure the bands of the checkpoints (about ten minutes per lesson)
	$(VENV_PYTHON) tools/reference.py

html: $(INSTALLED) ## make web pages that need no network, in build/html
	$(VENV_PYTHON) tools/export_html.py

lint: $(INSTALLED) ## check code and notebooks with ruff
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .

# What follows takes from a few minutes to more than an hour, and writes a page to benchmarks/.

bench: $(INSTALLED) ## train published recipes and ours, side by side
	$(VENV_PYTHON) benchmarks/run.py

growth: $(INSTALLED) ## measure how time and memory grow with data and code
	$(VENV_PYTHON) benchmarks/growth.py

profile: $(INSTALLED) ## measure where the time of the slowest lesson and of training steps goes
	$(VENV_PYTHON) benchmarks/profiling.py

bill: $(INSTALLED) ## measure what each lesson costs and what a class needs
	$(VENV_PYTHON) benchmarks/bill.py

faults: $(INSTALLED) ## plant faults in a copy and see which checks find them
	$(VENV_PYTHON) tools/faults.py

stress: $(INSTALLED) ## kill, fill, cut and crowd: works, or says what to do
	$(VENV_PYTHON) tools/stress.py

test-backends: $(INSTALLED) ## run the lessons on JAX, PyTorch and two devices
	$(VENV_PYTHON) tools/environments.py backends

test-versions: $(INSTALLED) ## run all tests with the oldest and the newest packages
	$(VENV_PYTHON) tools/environments.py versions

# The file says that the packages were installed after the last change of what is required.
$(INSTALLED): requirements.txt pyproject.toml
	@test -x .venv/bin/pip || $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "The course needs Python 3.11, 3.12 or 3.13: try make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	test -x .venv/bin/pip || $(PYTHON) -m venv .venv
	$(VENV_PYTHON) -m pip install -r requirements.txt
	@touch $@
