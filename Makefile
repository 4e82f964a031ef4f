# Two commands: `make demo` and `make test`. Both make .venv first, from the pins in constraints.txt.
# As root on Debian, `make cluster` runs a study on a Slurm cluster that it installs and starts.
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

# torch goes first, because pip then takes the build that fits this machine.
$(VENV)/.installed: constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[torch,onnx]'
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

# The other stacks that the suite runs trials in; they lie in the virtual environment too.
ENVS := transformers5 onnxruntime_genai
$(VENV)/.installed-envs: $(ENVS:%=conf/env/%.txt) | $(VENV)/.installed-test
	for name in $(ENVS); do \
	  rm -rf $(VENV)/share/slm_energy/envs/$$name; \
	  XDG_DATA_HOME=$(abspath $(VENV))/share $(BIN)/slm-energy env create $$name || exit 1; \
	done
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
