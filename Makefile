# The course's commands; `make` alone lists them. Every command does its whole set-up on a fresh clone.
# Another Python: `make lab PYTHON=python3.12`. Programs are called as `python -m …`, because the scripts that pip
# installs do not start from a folder with spaces in its name.

PYTHON ?= python3
IP ?= 127.0.0.1
PORT ?= 8888
VENV_PYTHON := .venv/bin/python
# Empty files whose date says when the packages were last installed.
INSTALLED := .venv/installed
INSTALLED_DEV := .venv/installed-dev

.DEFAULT_GOAL := help
.PHONY: help lab check-up test check test-slow notebooks lessons stamp publish reference pretrained curves site slides student explorer \
	bench allocator cost faults stress test-backends test-versions

help:
	@awk -F':.*## ' '/^#:/ {sub(/^#: ?/, ""); print; next} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

#: Start here:
#:
lab: $(INSTALLED) ## install the course, start JupyterLab, and open lesson 01
	@$(VENV_PYTHON) -m tools.lab --ip "$(IP)" --port "$(PORT)"
#:                       The first start takes some minutes, because it installs TensorFlow and JupyterLab into .venv.
#:                       Then your browser opens; where there is none, the last line is the address to open:
#:
#:                           http://127.0.0.1:8888/lab/tree/notebooks/01_autoencoder.ipynb?token=…
#:
#:                       Only programs on this machine can reach it; make lab IP=0.0.0.0 lets in other machines.

check-up: $(INSTALLED) ## look for what is missing here, line by line, and say what to do
	@$(VENV_PYTHON) -m course_utils

test: $(INSTALLED_DEV) ## run all tests and re-execute every notebook (about half an hour)
	$(VENV_PYTHON) -m pytest

#:
#: To change the course (CONTRIBUTING.md says when to use which):
#:
check: $(INSTALLED_DEV) ## style, types and the quick tests, in a minute and a half
	$(VENV_PYTHON) -m pytest tests -m "not slow" --numprocesses 2 --dist loadfile

test-slow: $(INSTALLED_DEV) ## the tests that `make check` leaves out, without the notebooks
	$(VENV_PYTHON) -m pytest tests -m slow

notebooks: lessons ## re-execute the notebooks and store their outputs
	$(VENV_PYTHON) -m tools.author.execute

lessons: $(INSTALLED_DEV) ## collect the definitions of the notebooks in course_utils/lessons.py
	$(VENV_PYTHON) -m tools.author.export_lessons

stamp: $(INSTALLED_DEV) ## write address, version and the table of lessons where they belong
	$(VENV_PYTHON) -m tools.author.stamp

publish: $(INSTALLED_DEV) ## make the course ready for its address: make publish REPOSITORY=https://github.com/you/course
	@test -n "$(REPOSITORY)" || { echo "Say where: make publish REPOSITORY=https://github.com/you/course" >&2; exit 1; }
	$(VENV_PYTHON) -m tools.author.publish "$(REPOSITORY)"

reference: lessons ## measure the bands of the checkpoints (ten to twenty minutes per lesson)
	$(VENV_PYTHON) -m tools.author.reference

pretrained: lessons ## train the models that lessons load; goes on where it was interrupted
	$(VENV_PYTHON) -m tools.author.pretrain

curves: lessons ## repeat the trainings behind the lessons' stored curves; goes on where it was interrupted
	$(VENV_PYTHON) -m tools.author.sweep

site: $(INSTALLED_DEV) ## make the course's web pages in build/site, with the slides if they are there
	$(VENV_PYTHON) -m tools.site.build

slides: $(INSTALLED_DEV) ## make a deck of slides for each lesson, in build/slides
	$(VENV_PYTHON) -m tools.author.slides

student: $(INSTALLED_DEV) ## make notebooks without solutions, in build/student, and the answers, in build/instructor
	$(VENV_PYTHON) -m tools.author.student

explorer: $(INSTALLED_DEV) ## make the latent space explorer, one web page, images/explorer.html
	$(VENV_PYTHON) -m tools.explorer.build

#:
#: To prove what the course says of itself (minutes to hours; each writes a page in reports/):
#:
bench: $(INSTALLED_DEV) ## published recipes and ours, trained side by side
	$(VENV_PYTHON) -m tools.prove.speed

allocator: $(INSTALLED_DEV) ## what keeping memory saves in time
	$(VENV_PYTHON) -m tools.prove.allocator

cost: $(INSTALLED_DEV) ## what each lesson costs, and what a class needs
	$(VENV_PYTHON) -m tools.prove.cost

faults: $(INSTALLED_DEV) ## plant faults in a copy, and see which checks find them
	$(VENV_PYTHON) -m tools.prove.faults

stress: $(INSTALLED_DEV) ## full disks, no network, other languages: it works, or says what to do
	$(VENV_PYTHON) -m tools.prove.stress

test-backends: $(INSTALLED_DEV) ## the lessons on JAX, PyTorch and two devices
	$(VENV_PYTHON) -m nox -s backends

test-versions: $(INSTALLED_DEV) ## all tests with the oldest and with the newest packages
	$(VENV_PYTHON) -m nox -s versions

$(INSTALLED): requirements.txt pyproject.toml
	@test -w . || { echo "The course has to be installed, and its folder $(CURDIR) cannot be written." >&2; \
		echo "Copy it to a folder of your own, and run make $(MAKECMDGOALS) there." >&2; exit 1; }
	@test -x $(VENV_PYTHON) || $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "The course needs Python 3.11, 3.12 or 3.13: try make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(VENV_PYTHON) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv || \
		{ echo "Python cannot make an environment here; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Installing the course and what it needs into .venv; the first time this takes some minutes."
	$(VENV_PYTHON) -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@

$(INSTALLED_DEV): $(INSTALLED) requirements-dev.txt
	$(VENV_PYTHON) -m pip install --disable-pip-version-check -r requirements-dev.txt
	@touch $@
