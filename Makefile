# `make ablate` runs the main job, `make test` the tests. Both first set up .venv where it is missing or out of date.
EXPERIMENT ?= paths
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
READY := .venv/.ready

.PHONY: ablate test setup clean

ablate: $(READY)
	@.venv/bin/acmix-bench ablate --experiment $(EXPERIMENT)

test: $(READY)
	@.venv/bin/python -m pytest --numprocesses auto --maxprocesses 4

setup: $(READY)

clean:
	rm -rf .venv

$(READY): pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "acmix-bench needs Python 3.11 or newer, and found $$($(or $(PYTHON),python3) --version 2>&1)." >&2; \
		echo "Name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "Setting up .venv (PyTorch is large: this can take some minutes) ..." >&2
	@"$(PYTHON)" -m venv .venv || { \
		echo "Python's venv module is incomplete; on Debian or Ubuntu install python3-venv." >&2; exit 2; }
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
