# `make demo` and `make test` first create .venv from the pins in constraints.txt.
# `make docs` builds the site into dist/docs; it can be opened from there, without a server.
# `make sbom` writes a bill of materials of the pins (CycloneDX); `make audit` asks a vulnerability
# service about each of them, so it needs the network.
# `make cluster` (as root on Debian) installs and starts a Slurm cluster, and runs studies on it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Two steps at a time, where neither needs the other.
MAKEFLAGS += -j2
# Tests start hundreds of processes, which would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test cluster lint docs sbom audit clean

demo: $(VENV)/.installed
	$(BIN)/python -m slm_energy --config-dir sweeps --config-name demo

test: $(VENV)/.installed-test $(VENV)/.installed-envs $(VENV)/.installed-validator lint sbom
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

docs: $(VENV)/.installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

sbom: $(VENV)/.installed-test
	mkdir -p dist
	$(BIN)/cyclonedx-py requirements constraints.txt --pyproject pyproject.toml \
	  --output-reproducible --short-PURLs -o dist/sbom.cdx.json

# pip-audit has an environment of its own: its packages are not among the pins that it looks up.
audit:
	mkdir -p dist && rm -f dist/audit.json
	$(PYTHON) -m venv dist/audit
	dist/audit/bin/pip install --disable-pip-version-check pip-audit==2.10.1
	-dist/audit/bin/pip-audit -r constraints.txt --no-deps --disable-pip -f json -o dist/audit.json
	$(PYTHON) tools/audit.py dist/audit.json

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

# torch is installed first, so that pip selects the build for this machine.
$(VENV)/.installed: constraints.txt pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[torch,onnx]'
	touch $@

# llama.cpp is compiled meanwhile, without its images and sounds, which take a third of the time.
$(VENV)/wheels: constraints.txt | $(BIN)/pip
	CMAKE_ARGS=-DLLAVA_BUILD=OFF $(BIN)/pip wheel --disable-pip-version-check --no-deps \
	  -c constraints.txt -w $@ llama-cpp-python
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed $(VENV)/wheels
	$(BIN)/pip install --disable-pip-version-check --find-links $(VENV)/wheels \
	  -c constraints.txt -e '.[test]'
	touch $@

# The other environments in which the tests run trials; also stored in the virtual environment.
ENVS := transformers5 onnxruntime_genai
$(VENV)/.installed-envs: $(ENVS:%=conf/env/%.txt) | $(VENV)/.installed-test
	for name in $(ENVS); do \
	  rm -rf $(VENV)/share/slm_energy/envs/$$name; \
	  XDG_DATA_HOME=$(abspath $(VENV))/share $(BIN)/slm-energy env create $$name || exit 1; \
	done
	touch $@

# What checks the metadata of exported packages; an earlier rich than this project's.
$(VENV)/.installed-validator: tests/replication/validator.txt | $(VENV)/.installed-test
	$(PYTHON) -m venv --clear $(VENV)/share/validator
	$(VENV)/share/validator/bin/pip install --disable-pip-version-check -r $<
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
