# Two commands do it all on a fresh machine: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
# Where the environment was installed; rebuilt when the project's requirements change.
READY := $(VENV)/.ready

.PHONY: install quickstart test test-slow test-soak lint bench clean

install: $(READY)

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet -e '.[all]'
	touch $@

# The whole way once, on synthetic faces: pictures and tables in ./quickstart
quickstart: $(READY)
	rm -rf quickstart
	$(VENV)/bin/octoscale quickstart --directory quickstart

# Everything but the tests marked slow, at most 12 minutes on two cores; what starts ranks of its own runs alone
test: $(READY)
	$(VENV)/bin/python -m pytest -m 'not slow and not soak' --numprocesses 2 tests/unit
	$(VENV)/bin/python -m pytest -m 'not slow and not soak' tests/distributed tests/integration

# Clusters, faults one by one, a clean installation: about 15 minutes
test-slow: $(READY)
	$(VENV)/bin/python -m pytest -m slow

# Every kind of fault, hundreds of random ones, every alert on a sick run: about an hour
test-soak: $(READY)
	$(VENV)/bin/python -m pytest -m soak

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# Without the one that asks which configuration and data set it is for.
BENCHES := $(filter-out tools/bench/scaling_run.py,$(wildcard tools/bench/*.py))
bench: $(READY)
	for script in $(BENCHES); do $(VENV)/bin/python $$script || exit 1; done

clean:
	rm -rf $(VENV) quickstart build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
