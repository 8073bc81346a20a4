# Two commands do everything on a fresh machine: `make demo` and `make test`.
# They need Python 3.11 or newer with venv, a C++17 compiler, and nothing else.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check
SOURCES := pyproject.toml setup.py constraints.txt $(wildcard csrc/*)

DEMO        ?= demo
DEMO_IMAGES ?= 1500
DEMO_ARGS   ?=

.PHONY: demo test check format clean

demo: $(VENV)/.runtime
	rm -rf $(DEMO)
	$(BIN)/aqqua sample $(DEMO)/ocean --images $(DEMO_IMAGES)
	$(BIN)/aqqua ingest $(DEMO)/ocean --out $(DEMO)/dataset
	$(BIN)/aqqua pretrain configs/sample.yaml data.path=$(DEMO)/dataset run=$(DEMO)/run $(DEMO_ARGS)
	$(BIN)/aqqua evaluate $(DEMO)/run --data $(DEMO)/dataset --against untrained --out $(DEMO)/scores.json
	$(BIN)/aqqua embed $(DEMO)/run --data $(DEMO)/dataset --out $(DEMO)/embeddings.parquet
	@echo
	@echo "raw instrument files   $(DEMO)/ocean"
	@echo "dataset                $(DEMO)/dataset   (quarantine.parquet says what was refused and why)"
	@echo "run                    $(DEMO)/run       (config, checkpoints, metrics.jsonl, tensorboard)"
	@echo "scores                 $(DEMO)/scores.json"
	@echo "embeddings             $(DEMO)/embeddings.parquet"
	@echo "your own data:         $(BIN)/aqqua ingest PATH... --out DATASET   (docs/own-data.md)"

test: $(VENV)/.dev
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) test

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The editable install builds aqqua._core; it is repeated when a source of it changes.
$(VENV)/.runtime: $(BIN)/python $(SOURCES)
	$(PIP) install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build demo aqqua/_core*.so *.egg-info
