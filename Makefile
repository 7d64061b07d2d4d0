# Two commands for a stranger: `make demo` and `make test`. Each sets up everything it needs in .venv.
#
#   make demo     set up, and boot the first guest
#   make test     set up, and run all tests (guests from Debian packages included)
#   make lint     ruff, mypy and the import rules alone
#   make stress   the long forms of the tests: fuzzing, determinism under load, thousands of preemptions
#   make bench    measure beside QEMU and write the table to docs/
#   make site     the documents as a site, in build/site
#   make clean    remove what these made
#
# PYTHON names the interpreter to build .venv from (3.11 or newer).

PYTHON ?= python3
BIN := .venv/bin
SET_UP := .venv/.set-up
KERNELS := hypervisor/engine/compiling/x86-64-v2.kernels

# Programs that are used beside Python, as COMMAND:DEBIAN-PACKAGE. Guests for the tests come as files of packages that are
# only unpacked (tests/debian.py), never installed.
TEST_PROGRAMS := dpkg-deb:dpkg cpio:cpio qemu-system-x86_64:qemu-system-x86 gdb:gdb nasm:nasm gcc:gcc ld:binutils iasl:acpica-tools \
 tar:tar grub-mkrescue:grub-common xorriso:xorriso mformat:mtools syslinux:syslinux \
 tshark:tshark genhtml:lcov
BENCH_PROGRAMS := $(TEST_PROGRAMS)
PROGRAMS := $(TEST_PROGRAMS)

.PHONY: demo test lint stress bench site clean set-up system-deps

demo: set-up
	$(BIN)/hypervisor run hello

test: system-deps set-up
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: set-up
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

stress: system-deps set-up
	$(BIN)/python -m pytest -m stress

bench: PROGRAMS := $(BENCH_PROGRAMS)
bench: system-deps set-up
	$(BIN)/python -m bench

site: set-up
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "the site is in build/site: open build/site/index.html"

clean:
	rm -rf .venv build/site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache hypervisor/guests/*.bin hypervisor/guests/*.sym \
	  $(KERNELS)

set-up: $(KERNELS)

# The guests are assembled by this install, and again when one is asked for after an edit.
$(SET_UP): pyproject.toml hatch_build.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than Python 3.11: install a newer one and run 'make PYTHON=python3.11 ...'." >&2; exit 1; }
	@test -x $(BIN)/python -a -x $(BIN)/pip || $(MAKE) --no-print-directory .venv/bin/pip
	@echo "installing into .venv (the first time takes a minute)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

# The engine's kernels are compiled here and not by the first run: those that the wheel brings, so that tests run them.
# By a change of other sources they stay what they are.
$(KERNELS): $(SET_UP) $(shell find hypervisor -name '*.py')
	@if [ "$$(uname -sm)" = "Linux x86_64" ]; then \
	  echo "compiling the kernels, if they have changed (up to a minute)"; \
	  $(BIN)/python -m hypervisor.engine.compiling.shipping >/dev/null && touch $@; \
	fi

# Debian splits venv and ensurepip off its Python; root gets them installed, everybody else a sentence.
.venv/bin/pip:
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null || \
	  { echo "installing: python3-venv"; apt-get -qq update; \
	    DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends python3-venv >/dev/null; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments: its 'venv' or 'ensurepip' module is missing." \
	         "On Debian and Ubuntu, run 'sudo apt-get install python3-venv' and try again." >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv

# As root: install what is missing. Otherwise: say what is missing, and go on.
system-deps:
	@missing=; for pair in $(PROGRAMS); do \
	  command -v $${pair%%:*} >/dev/null 2>&1 || missing="$$missing $${pair#*:}"; done; \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing:$$missing"; apt-get -qq update; \
	  DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends $$missing >/dev/null; \
	else \
	  echo "Programs that this uses are not installed; to have them: sudo apt-get install$$missing"; \
	fi
