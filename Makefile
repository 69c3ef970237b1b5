# Two commands matter: `make run` sets everything up and starts the server, `make test` sets everything up
# and passes all tests. Both need git, make and Python >= 3.11, nothing else. uv is used where it is installed.

PYTHON ?= python3
VENV ?= .venv
# Extra requirements for pip, such as CONSTRAIN="mitmproxy==11.0.2"
CONSTRAIN ?=
ARGS ?=
TEST_ARGS ?= -n 2 --dist loadscope --no-loadscope-reorder

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test lint bench bench-document conformance requests-suite clean

run: $(STAMP)
	$(BIN)/buffy serve $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest $(TEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Beside squid, nginx and mitmdump, as far as they are installed; with plots if there is matplotlib.
bench: $(STAMP)
	$(BIN)/python -m bench $(ARGS)

# Puts the figures of the last run into docs/benchmarks.md.
bench-document: $(STAMP)
	$(BIN)/python -m bench.document

# requests' own tests, directly and through Buffy; wants a package index
requests-suite: $(STAMP)
	$(BIN)/python -m tests.requests_suite.run $(ARGS)

# The public HTTP cache tests, four ways; needs node and npm. UPDATE=1 writes conformance/results.txt.
conformance: $(STAMP)
	$(BIN)/python -m conformance.run $(if $(UPDATE),--update)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Buffy needs Python 3.11 or newer; name one with PYTHON=..." >&2; exit 1; }
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --allow-existing --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV) && \
	  uv pip install --quiet --python $(BIN)/python -e '.[dev]' $(if $(CONSTRAIN),'$(CONSTRAIN)'); \
	else \
	  $(PYTHON) -m venv $(VENV) && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' $(if $(CONSTRAIN),'$(CONSTRAIN)'); \
	fi
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
