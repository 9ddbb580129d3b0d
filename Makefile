# The two commands of the README. Both write below this directory only; `make clean` takes back what they made.
PYTHON ?= python3
SOURCES := pyproject.toml .ci/requirements.txt $(shell find sigkit -name '*.py')
PIP_INSTALL = bin/python -m pip --disable-pip-version-check install --quiet --constraint .ci/requirements.txt

.PHONY: demo test clean

demo: .venv/installed
	@.venv/bin/sigkit demo

test: .venv-tox/installed
	@.venv-tox/bin/tox run

.venv/installed: $(SOURCES)
	@test -e .venv/bin/python || $(PYTHON) -m venv .venv
	@.venv/$(PIP_INSTALL) '.[serve]'
	@touch $@

.venv-tox/installed: .ci/requirements.txt
	@test -e .venv-tox/bin/python || $(PYTHON) -m venv .venv-tox
	@.venv-tox/$(PIP_INSTALL) tox
	@touch $@

clean:
	rm -rf .venv .venv-tox .tox .mypy_cache .pytest_cache .ruff_cache
