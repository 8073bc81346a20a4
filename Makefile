# Two commands do everything on a fresh machine: `make demo` and `make test`.
# They need Python 3.11 or newer with venv and its headers (Debian: python3-venv python3-dev), a C++17
# compiler (g++) and make. .ci/run installs what is missing of these.
#
# On Linux x86 PyPI's torch is the CUDA build, gigabytes of it. On a machine without a GPU:
#   make demo TORCH_ARGS="..."   # what the PyTorch installation page says behind `pip install torch`

PYTHON     ?= python3
VENV       ?= .venv
TORCH_ARGS ?=
TEST_PROCESSES ?= 2
BIN        := $(VENV)/bin
PIP        := $(BIN)/pip --disable-pip-version-check
SOURCES    := pyproject.toml setup.py constraints.txt $(wildcard csrc/*)

DEMO        ?= demo
DEMO_IMAGES ?= 1500
DEMO_ARGS   ?=
# `make demo` removes only what an earlier demo made, and only from a folder with this file in it.
MARKER      := .aqqua-demo
DEMO_MADE   := ocean dataset run scores.json embeddings.parquet

.PHONY: demo demo-folder test check shapes sanitize reliability bench bench-gate format clean

demo: demo-folder $(VENV)/.runtime
	mkdir -p "$(DEMO)"
	touch "$(DEMO)/$(MARKER)"
	cd "$(DEMO)" && rm -rf $(DEMO_MADE)
	$(BIN)/aqqua sample "$(DEMO)/ocean" --images $(DEMO_IMAGES)
	$(BIN)/aqqua ingest "$(DEMO)/ocean" --out "$(DEMO)/dataset"
	$(BIN)/aqqua pretrain configs/sample.yaml data.path="$(DEMO)/dataset" run="$(DEMO)/run" $(DEMO_ARGS)
	$(BIN)/aqqua evaluate "$(DEMO)/run" --data "$(DEMO)/dataset" --against untrained --out "$(DEMO)/scores.json"
	$(BIN)/aqqua embed "$(DEMO)/run" --data "$(DEMO)/dataset" --out "$(DEMO)/embeddings.parquet"
	@echo
	@echo "raw instrument files   $(DEMO)/ocean"
	@echo "dataset                $(DEMO)/dataset   (quarantine.parquet says what was refused and why)"
	@echo "run                    $(DEMO)/run       (config, checkpoints, metrics.jsonl, tensorboard)"
	@echo "scores                 $(DEMO)/scores.json"
	@echo "embeddings             $(DEMO)/embeddings.parquet"
	@echo "your own data:         $(BIN)/aqqua ingest PATH... --out DATASET   (docs/own-data.md)"

demo-folder:
	@test -n "$(DEMO)" || { echo "make demo: DEMO must name a folder, got nothing; leave it out" >&2; exit 2; }
	@test ! -e "$(DEMO)" || test -f "$(DEMO)/$(MARKER)" || { echo "make demo: DEMO must be new or the folder\
	 of an earlier demo (with $(MARKER) in it), got $(DEMO); choose another DEMO=" >&2; exit 2; }

# Two processes, each with whole files of tests, so that what a file shares is made once.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) test
	$(MAKE) shapes

# The shapes written in signatures, checked on every call.
shapes: $(VENV)/.dev
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest tests/model tests/objective tests/kernels tests/plan \
	    -m 'not breaks_shapes' \
	    --jaxtyping-packages=aqqua,beartype.beartype $(PYTEST_ARGS)

# The C++ core under AddressSanitizer and UndefinedBehaviorSanitizer (GCC), with every test that calls it.
# Python itself frees nothing at exit, so leaks are not looked for; and the sanitizer's own memory is more
# than the one test of memory allows.
SANITIZED := build/sanitized
sanitize: $(VENV)/.dev
	CFLAGS="-g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined" \
	    LDFLAGS="-fsanitize=address,undefined" $(BIN)/python setup.py -q build --build-temp build/sanitized-objects \
	    --build-lib $(SANITIZED)
	cd $(SANITIZED) && LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
	    ASAN_OPTIONS=detect_leaks=0 OMP_NUM_THREADS=1 $(abspath $(BIN))/python -m pytest -p no:cacheprovider \
	    --rootdir $(CURDIR) $(addprefix $(CURDIR)/,tests/plan tests/render tests/curate/copies) \
	    -k 'not loads_little_and_stays_small' $(PYTEST_ARGS)

# What a run survives, in full (minutes); a short form of it is in `make test`. Writes docs/reliability.md.
reliability: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/reliability -m reliability $(PYTEST_ARGS)

# Every benchmark that this machine can run, an hour or less; rows go to bench/results. See docs/performance.md.
#   make bench BENCH_ARGS="--quick"                                a few minutes, rows are not kept
#   make bench BENCH_ARGS="--dataset isiis --input isiis-ndsb.zip"
BENCH_ARGS ?=
bench: $(VENV)/.dev
	$(BIN)/python bench/all.py $(BENCH_ARGS)

# Refuses what has become slower beside its peers: half a minute, on any CPU.
bench-gate: $(VENV)/.dev
	$(BIN)/python bench/gate.py

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch first, by itself: it alone takes TORCH_ARGS, and what takes so long should be named.
$(VENV)/.torch: $(BIN)/python constraints.txt
	@echo "installing torch; on Linux x86 this is the CUDA build (gigabytes) unless TORCH_ARGS names another"
	$(PIP) install -q -c constraints.txt $(TORCH_ARGS) torch
	@touch $@

# The editable install builds aqqua._core; it is repeated when a source of it changes.
$(VENV)/.runtime: $(VENV)/.torch $(SOURCES)
	$(PIP) install -q -c constraints.txt -e .
	@touch $@

# torchvision belongs to the build of torch, so it comes from the same place.
$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) install -q -c constraints.txt $(TORCH_ARGS) torchvision
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	test ! -f "$(DEMO)/$(MARKER)" || rm -rf "$(DEMO)"
	test ! -f "$(VENV)/pyvenv.cfg" || rm -rf "$(VENV)"
	rm -rf build aqqua/_core*.so *.egg-info
