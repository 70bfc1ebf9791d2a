# The two commands of the README: `make reproduce` and `make test`. Everything else is a convenience.
PYTHON  ?= python3
PROFILE ?= quick
CORES   ?= $(shell $(PYTHON) -c "import os; print(os.cpu_count())")
VENV    ?= .venv
BIN      = $(VENV)/bin
DONE     = $(VENV)/.installed
# the versions that the published results were made with; `make install LOCK=` takes the newest that settings.ini allows
LOCK    ?= requirements.lock

.PHONY: reproduce plan report keep test lab sample install lock audit

reproduce: $(DONE)      ## the whole paper in one profile: data, trainings, tables, figures, claims, report
	$(BIN)/mpst reproduce --profile $(PROFILE) --cores $(CORES)

plan: $(DONE)           ## what `make reproduce` would still run
	$(BIN)/mpst reproduce --profile $(PROFILE) --cores $(CORES) --plan

report: $(DONE)         ## the report again, from the records there are
	$(BIN)/mpst report --profile $(PROFILE) --cores $(CORES)

keep: $(DONE)           ## copy the profile's finished runs, small, to data/results
	$(BIN)/mpst keep --profile $(PROFILE)

test: $(DONE)           ## every notebook's checks, then the tests that notebooks cannot say
	$(BIN)/nbdev_test --n_workers 2 --timing
	$(BIN)/pytest -q tests

lab: $(DONE)            ## JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir=nbs

sample: $(DONE)         ## the real four-camera recording for `mpst predict`
	$(BIN)/mpst sample

install: $(DONE)        ## with the versions of requirements.lock; LOCK= takes the newest allowed

lock: $(DONE)           ## note down the versions that are installed
	{ sed -n '/^\#/p' requirements.lock; $(BIN)/python -m pip freeze --exclude-editable | grep -v ' @ '; } > requirements.lock.tmp && mv requirements.lock.tmp requirements.lock

audit: $(DONE)          ## secrets in tracked files, known holes in the locked packages
	$(BIN)/python tests/audit.py

$(DONE): settings.ini setup.py $(LOCK)
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'mpst_nb needs Python 3.11 or later; this is ' + sys.version.split()[0] + '. Try: make PYTHON=python3.12 ...')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	@echo "installing (about 7 GB with torch; 2 to 5 minutes) ..."
	$(BIN)/python -m pip install -q $(if $(LOCK),-c $(LOCK)) -e '.[dev]'
	touch $(DONE)
