# `make demo` and `make test` first create .venv from the pins in constraints.txt.
# `make cluster` (as root on Debian) installs and starts a Slurm cluster, and runs a study on it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test cluster lint clean

demo: $(VENV)/.installed
	$(BIN)/python -m slm_energy --config-dir sweeps --config-name demo

test: $(VENV)/.installed-test $(VENV)/.installed-envs lint
	$(BIN)/pytest -n 2 --dist loadfile

cluster: $(VENV)/.installed-test
	$(BIN)/python -m tests.slurm.study

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry slm_energy hydra_plugins
	$(BIN)/pip check --disable-pip-version-check

# torch is installed first, so that pip selects the build for this machine.
$(VENV)/.installed: constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[torch,onnx]'
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

# The other environments in which the tests run trials; also stored in the virtual environment.
ENVS := transformers5 onnxruntime_genai
$(VENV)/.installed-envs: $(ENVS:%=conf/env/%.txt) | $(VENV)/.installed-test
	for name in $(ENVS); do \
	  rm -rf $(VENV)/share/slm_energy/envs/$$name; \
	  XDG_DATA_HOME=$(abspath $(VENV))/share $(BIN)/slm-energy env create $$name || exit 1; \
	done
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
