# The one task runner, by hand and in CI. `make` alone lists the targets.
#
# Needs Rust, a C++ compiler, and Python >= 3.11 with venv. All else is brought here: tools into .venv,
# RocksDB into a cache outside the clone (see tools/rocksdb.py).
#
#   PYTHON=python3.12   the interpreter that .venv is made with
#   VENV=DIR            another place for it
#   GOBLINS_CACHE=DIR   where RocksDB is kept (~/.cache/goblins)
#   PYTEST="-k demo"    more arguments for pytest
#   BENCH="near_call"   more arguments for the benches, such as a filter

PYTHON ?= python3
PYTEST ?=
BENCH ?=

VENV ?= $(CURDIR)/.venv
PY := $(VENV)/bin/python
# Stands for a group of tools in .venv, of those that pyproject.toml lists.
HAS := $(VENV)/.has-
# Runs a command with RocksDB and libclang where cargo finds them.
RUN := $(PY) tools/rocksdb.py run --
# The same, with a folder of its own below cargo's: for builds with flags that would make cargo compile
# everything again.
within = $(RUN) sh -c 'CARGO_TARGET_DIR="$$CARGO_TARGET_DIR/$(1)" exec "$$@"' --
MATURIN := PATH="$(VENV)/bin:$$PATH" $(call within,extension-$(notdir $(VENV))) maturin

# True if test binaries can be linked with the interpreter: some distributions ship libpython apart.
HAS_LIBPYTHON = $(PY) -c 'import os, sys, sysconfig; v = sysconfig.get_config_var; sys.exit( \
	sys.platform == "linux" and not any(os.path.exists(os.path.join(v(d), v("LDLIBRARY"))) \
	for d in ("LIBDIR", "LIBPL")))'

# Clones must not share cargo's folder: it tells their crates apart by modification times only, and so
# runs the code of one in the other.
export CARGO_TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
# One interpreter for all, or PyO3 is compiled again for each.
export VIRTUAL_ENV := $(VENV)
export PYO3_PYTHON := $(PY)
unexport CONDA_PREFIX PYTHONHOME
# `maturin develop` calls pip as well.
export PIP_QUIET := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test fuzz test-python check-pythons check-wheel mutants sdist build release develop wheel bench bench-peers bench-large check lint types loom bench-quick test-rust tools clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: build ## Kill a working bank with SIGKILL, again and again, and show that nothing is lost
	$(PY) examples/demo.py

test: test-rust test-python ## Run all tests, Rust and Python

test-python: build $(HAS)test ## Run the Python tests only
	$(PY) -m pytest -n auto --dist worksteal $(PYTEST)

build: $(HAS)build ## Build the package for daily use (4 to 9 % slower than a release) and install it into .venv
	$(MATURIN) develop --profile quick

release: $(HAS)build ## Build the package as in a wheel and install it into .venv
	$(MATURIN) develop --release

develop: $(HAS)build ## Build the package without optimisation and install it into .venv
	$(MATURIN) develop

sdist: $(HAS)build ## Build the source distribution into dist/
	$(PY) -m maturin sdist --out dist

wheel: $(HAS)build ## Build a release wheel into dist/
	PATH="$(VENV)/bin:$$PATH" $(call within,wheel) $(PY) tools/build_backend.py dist

bench: $(HAS)build ## Run the benches
	$(RUN) cargo bench --workspace --bench '*' -- $(BENCH)

check: lint test types loom bench-quick check-pythons ## Run the whole gate

check-pythons: ## Run the Python tests on each other CPython that is found, of those that we support
	@found=$$($(PYTHON) tools/pythons.py); \
	test -n "$$found" || echo "SKIPPED: no other CPython of those that we support is installed"; \
	for python in $$found; do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "CPython $$version: $$python"; \
		$(MAKE) --no-print-directory test-python PYTHON=$$python VENV=$(CURDIR)/.venv/python$$version || exit 1; \
	done

check-wheel: wheel sdist ## Install the wheel, and then the source distribution, where nothing else is, and use them
	$(PY) tools/try_package.py dist

mutants: $(HAS)test $(HAS)build ## Switch off, one by one, lines on which a guarantee rests, and see that a test fails
	$(PY) tools/mutants.py

lint: tools ## Check format and lints
	cargo fmt --all --check
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) tools/notices.py --check
	$(PY) tools/mutants.py --list > /dev/null
	$(RUN) cargo clippy --workspace --all-targets -- -D warnings

test-rust: $(HAS)build ## Run the Rust tests only
	@if $(HAS_LIBPYTHON); then \
		set -x; $(RUN) cargo test -p goblins-core -p goblins-store-rocksdb -p goblins-python; \
	else \
		(set -x; $(RUN) cargo test -p goblins-core -p goblins-store-rocksdb) && \
		echo "SKIPPED: the Rust tests of the binding need libpython (Debian: apt install python3-dev)"; \
	fi

types: build tools ## Check the types of the package and the examples, and the stub against the module
	$(PY) -m mypy
	$(PY) -m mypy.stubtest goblins._goblins
	$(PY) -m pyright

loom: $(HAS)build ## Run the tests that try all interleavings of threads
	RUSTFLAGS="--cfg loom" $(call within,loom) cargo test -p goblins-core --release --test loom

bench-quick: build tools ## Run each bench for a moment
	$(RUN) cargo bench --workspace --bench '*' --profile quick -- --quick
	$(PY) benches/large_store.py --quick
	$(PY) benches/growth.py --quick
	$(PY) benches/log_cost.py --quick
	$(PY) benches/paired.py --quick

tools: $(HAS)dev ## Make .venv with all tools that any of this needs

$(HAS)%: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3")'
	@echo "Installing tools into .venv: group '$*' of pyproject.toml"
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --upgrade 'pip>=25.1'
	$(PY) -m pip install --group $*
	@touch $@

# The machines of hypothesis take the number of their programs from the environment, as tests of damaged stores do.
fuzz: build $(HAS)test ## Try random programs, damaged stores, signals and the readers of records for long (FUZZ=600 seconds each for the last two)
	GOBLINS_MUTANTS=3000 $(PY) -m pytest tests/test_hostile_stores.py $(PYTEST)
	GOBLINS_PROGRAMS=3000 $(PY) -m pytest --timeout 7200 tests/test_random_programs.py tests/test_graph_fuzz.py \
		tests/test_class_actors_model.py tests/test_collections_model.py tests/test_fields_model.py tests/test_sleep.py \
		$(PYTEST)
	for script in tests/stress/*.py; do $(PY) "$$script" $(or $(FUZZ),600) || exit 1; done
	cd rust/fuzz && cargo run --release --locked -- $(or $(FUZZ),600)

bench-peers: release tools ## Run goblins beside other ways to do the same, and write docs/benchmarks.md
	$(PY) benches/paired.py --write

bench-large: release ## Measure stores of millions of actors, and write the section of docs/benchmarks.md
	$(PY) benches/large_store.py --write
	$(PY) benches/growth.py

clean: ## Remove what was built in the clone; the cache outside it stays
	rm -rf .venv target dist python/goblins/_goblins.*.so .hypothesis .pytest_cache .mypy_cache .ruff_cache
	find python tests examples tools -name __pycache__ -type d -prune -exec rm -rf {} +
