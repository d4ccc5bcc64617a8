PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Interpreters that pyenv holds but has not activated.
PYENV_ROOT ?= $(HOME)/.pyenv
EMPTY :=
PYENV_PATH := $(subst $(EMPTY) $(EMPTY),:,$(wildcard $(PYENV_ROOT)/versions/3.1*/bin))
# tox environments at a time.  The tests watch the clock: more than there are processors disturb each other.
JOBS ?= 2
# tox runs the whole suite on this one as "py", so the quick part need not run on it again.
THIS_PYTHON = ^$(shell $(BIN)/python -c 'import sys; print("py%d%d" % sys.version_info[:2])')$$

.PHONY: demo test lint bench soak clean

demo: $(VENV)/.client
	$(BIN)/grocketmq demo

test: $(VENV)/.tox
	@PATH="$$PATH:$(PYENV_PATH)" TOX_SKIP_ENV="$(THIS_PYTHON)" $(BIN)/tox run-parallel -p $(JOBS) $(TOX_ARGS)

lint: $(VENV)/.tox
	$(BIN)/tox run -e lint,types

bench: $(VENV)/.bench
	$(BIN)/python -m bench --metrics

soak: $(VENV)/.suite $(VENV)/.tox
	$(BIN)/python -m pytest tests/broker tests/citizen -m 'slow or soak'
	$(BIN)/tox run -e stacks -- -m slow

clean:
	rm -rf $(VENV) .tox build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.client: setup.py pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[speed,cli,kapokmq]'
	touch $@

$(VENV)/.bench: $(VENV)/.client
	$(BIN)/python -m pip install --quiet prometheus-client
	touch $@

$(VENV)/.suite: setup.py pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[speed,lz4,zstd,cli,kapokmq,test]'
	touch $@

$(VENV)/.tox: tox.ini | $(BIN)/python
	$(BIN)/python -m pip install --quiet 'tox>=4.20'
	touch $@
