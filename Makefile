# The two commands of the README: `make reproduce` and `make test`. Everything else is a convenience.
PYTHON  ?= python3
PROFILE ?= quick
CORES   ?= $(shell $(PYTHON) -c "import os; print(os.cpu_count())")
BIN      = .venv/bin
DONE     = .venv/.installed

.PHONY: reproduce plan report keep test lab sample install

reproduce: $(DONE)      ## the whole paper in one profile: data, trainings, tables, figures, claims, report
	$(BIN)/mpst reproduce --profile $(PROFILE) --cores $(CORES)

plan: $(DONE)           ## what `make reproduce` would still run
	$(BIN)/mpst reproduce --profile $(PROFILE) --cores $(CORES) --plan

report: $(DONE)         ## the report again, from the records there are
	$(BIN)/mpst report --profile $(PROFILE)

keep: $(DONE)           ## copy the profile's finished runs, small, to data/results
	$(BIN)/mpst keep --profile $(PROFILE)

test: $(DONE)           ## every notebook's checks, then the tests that notebooks cannot say
	$(BIN)/nbdev_test --n_workers 2 --timing
	$(BIN)/pytest -q tests

lab: $(DONE)            ## JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir=nbs

sample: $(DONE)         ## the real four-camera recording for `mpst predict`
	$(BIN)/mpst sample

install: $(DONE)

$(DONE): settings.ini setup.py
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'mpst_nb needs Python 3.11 or later; this is ' + sys.version.split()[0] + '. Try: make PYTHON=python3.12 ...')"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --upgrade pip
	@echo "installing (about 7 GB with torch; 2 to 5 minutes) ..."
	$(BIN)/python -m pip install -q -e '.[dev]'
	touch $(DONE)
