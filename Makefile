# make demo | test | check | clean. Each builds .venv by itself when it is not there yet.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test check lint clean
.NOTPARALLEL:

demo: $(VENV)/.demo
	$(BIN)/python examples/digits_mlp.py

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for each set of extras; a larger set stamps the smaller ones too. They are made again when pyproject.toml
# changes, and an install that was interrupted leaves none.
$(VENV)/.made:
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else "staticgraph needs Python 3.11, 3.12 or 3.13 and this is %d.%d: make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: pyproject.toml | $(VENV)/.made
	$(PIP) install --editable '.[examples]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/.made
	$(PIP) install --editable '.[test,examples,cuda-compiler]'
	@touch $@ $(VENV)/.demo

$(VENV)/.dev: pyproject.toml | $(VENV)/.made
	$(PIP) install --editable '.[dev,examples,cuda-compiler]'
	@touch $@ $(VENV)/.test $(VENV)/.demo
