## make train    train and test CONFIG; the default makes its own pictures first    CONFIG=... ARGS="--amp ..."
## make test     run the tests                                                      ARGS="-k traversal ..."
## make test-official   the tests on the official OpenMMLab packages, in .venv-official; compiles mmcv, 18 minutes or more
## make check    lint, format, types, import rules
## make bench    time and memory against the peers: op, backbone, train or infer    ARGS="train --dtype bfloat16 ..."
## make bench-gpu  check and time the kernels and networks on a GPU, in 8 minutes     ARGS="--official CLONE ..."
## make clean    remove both .venv, caches and build leftovers; data and work_dirs stay
## PYTHON=python3.12 names the interpreter .venv is made with.

PYTHON ?= python3
CONFIG ?= $(SAMPLE)
ARGS ?=

# Threads that wait sleep. Spinning ones take the cores of whatever else runs: beside two busy processes on two cores a
# forward of ViL-T took 2.9 times as long with them.
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 0
# Alone on the machine a little spinning pays, and one that is measured should be alone. Buffers of some MB, which glibc
# would hand back to the system at each turn, are kept for the next one.
bench: export GOMP_SPINCOUNT := 10000
bench: export MALLOC_MMAP_THRESHOLD_ := 1073741824
bench: export MALLOC_TRIM_THRESHOLD_ := 4294967296
bench: export MALLOC_TOP_PAD_ := 67108864

SAMPLE := configs/vil_upernet_sample.py
VOLUMES := configs/vil_unet3d_sample.py
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
READY := .venv/.ready
OFFICIAL := .venv-official/bin/python
OFFICIAL_SET := mmengine==0.10.7 mmsegmentation==1.2.2 ftfy regex

.PHONY: help train test test-official check bench bench-gpu clean

help:
	@sed -n 's/^## //p' Makefile

$(READY): requirements.txt setup.cfg vil_dense/__init__.py
	@test -x $(BIN)/pip || { echo "making .venv, this takes a minute or two"; \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: PYTHON=...")' \
	  && $(PYTHON) -m venv .venv; }
	@$(PIP) install -r requirements.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

train: $(READY)
ifeq ($(abspath $(CONFIG)),$(abspath $(SAMPLE)))
	$(BIN)/python tools/dataset_converters/make_sample.py
endif
ifeq ($(abspath $(CONFIG)),$(abspath $(VOLUMES)))
	$(BIN)/python tools/dataset_converters/make_phantom.py
endif
	$(BIN)/python tools/train.py $(CONFIG) $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest $(ARGS)

# mmcv 2.1.0 asks setuptools for pkg_resources, which newer ones lack; mmseg 1.2.2 refuses mmcv 2.2.
.venv-official/.ready: requirements.txt setup.cfg vil_dense/__init__.py
	@test -x $(OFFICIAL) || $(PYTHON) -m venv .venv-official
	@$(OFFICIAL) -m pip install --quiet "setuptools>=77,<81" wheel ninja
	@grep -v -e '^onedl-' -e '^setuptools' requirements.txt | $(OFFICIAL) -m pip install --quiet -r /dev/stdin
	@echo "compiling mmcv"
	@MMCV_WITH_OPS=1 $(OFFICIAL) -m pip install --quiet --no-build-isolation mmcv==2.1.0
	@$(OFFICIAL) -m pip install --quiet $(OFFICIAL_SET)
	@$(OFFICIAL) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

test-official: .venv-official/.ready
	$(OFFICIAL) tools/doctor.py
	$(OFFICIAL) -m pytest $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python tools/benchmark/benchmark.py $(or $(ARGS),backbone)

bench-gpu: $(READY)
	$(BIN)/python tools/benchmark/bench_gpu.py $(ARGS)

clean:
	rm -rf .venv .venv-official build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find vil_dense tools tests configs -name __pycache__ -type d -prune -exec rm -rf {} +
