# make demo, make test, make test-long: each sets everything up first, into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := torch,cpu,openvino,evaluate,mlflow,sweeps,dask,report,dev

.PHONY: demo test test-long lint browser setup clean

demo: setup
	$(BIN)/benexp experiment=demo
	@echo "Open outputs/demo/*/viewer.html in a browser, the .tif files in QGIS."

test: lint browser
	$(BIN)/python -m pytest -m "not long" -n 2

test-long: setup browser
	$(BIN)/python -m pytest -m long

# Root installs Debian's chromium, which tests of pages drive; others are told that those tests are skipped.
browser:
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null; } \
		|| echo "NOTE: there is no chromium, so the tests in a browser are SKIPPED (Debian: apt-get install chromium)"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: $(VENV)/ready

# The stamp comes last: a set-up that was cut off is taken up again, from a new environment where the old one is broken.
$(VENV)/ready: pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || rm -rf $(VENV)
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV) || { \
		echo "No virtual environment can be made with '$(PYTHON)': install Python 3.11 with venv (Debian: apt-get install python3-venv), or name another with make PYTHON=..."; \
		rm -rf $(VENV); exit 1; }
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	@$(BIN)/python -c "import rasterio, numpy" || { \
		echo "A system library is missing (Debian: apt-get install libexpat1 libstdc++6)"; exit 1; }
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
