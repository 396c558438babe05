# make run and make test need Python 3.11 or newer and nothing else; the rest is made here, in .venv.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
UV_VERSION := 0.13.9

# How many files of tests run at once. Each of these processes has a Postgres of its own, since what one test looks at
# in Postgres is not to be another's; files are taken in the order of their names, in which the longest are not last.
JOBS := auto

# What the compiled build is made from, beside what says how; and what it is tried by: the tests of the folders
# that have compiled modules, and of the gateway as a whole.
SOURCES := $(shell find client/sqlhttp gateway/sqlhttp_gateway -name '*.py')
COMPILED_TESTS := tests/test_compiled.py $(addprefix tests/gateway/,wire neon pools endpoints sql execute observe \
  test_quick.py test_reply.py test_service.py) tests/integration tests/contract tests/fuzz

# Of these CI runs, as it has run all of them on the source: what has most to do with a real Postgres and real drivers.
ifneq ($(filter-out 0,$(SHORT)),)
COMPILED_TESTS := tests/test_compiled.py $(addprefix tests/gateway/,wire neon pools endpoints sql execute \
  test_quick.py test_reply.py test_service.py) tests/contract tests/fuzz/test_corpus.py \
  $(patsubst %,tests/integration/test_%.py,has_run healing hostile_bodies idempotency interleaved pool_bounds \
  program_gone session_state short_way sql_endpoint taking_turns tunnel type_fidelity unread_answers what_is_held)
endif

# The build that faults, kills and endurance are on: as PYTHONPATH, it stands before the source that is installed, for the
# gateways that are started, too.
COMPILED :=
ON_BUILD := $(if $(filter-out 0,$(COMPILED)),PYTHONPATH='$(CURDIR)/.compiled')
BUILT := $(if $(filter-out 0,$(COMPILED)),.compiled/.built)

# The drivers that the tests try come from npm. Without npm they are left out, and the tests say so.
NPM := $(shell command -v npm 2>/dev/null)
DRIVERS := $(if $(NPM),tests/contract/node_modules/.package-lock.json)

.PHONY: help run test compiled test-compiled check format bench bench-growth bench-workers faults faults-seen endurance fuzz incident audit docs lock clean

help:
	@echo 'make run      a private Postgres and the gateway in front of it, on http://127.0.0.1:4444'
	@echo '              PORT=5000 for another port, DATABASE_URL=postgres://… for a Postgres of your own'
	@echo 'make test     all tests; ARGS="-k pool" for some, JOBS=0 for one after the other'
	@echo 'make compiled a build with the hot modules in C, in .compiled; it needs a C compiler'
	@echo 'make test-compiled: the tests of those modules, and of the whole, on it: ARGS="tests/contract" for some'
	@echo 'make check    formatting, lint, types, import contracts'
	@echo 'make format   put the source in its canonical form'
	@echo 'make docs     write the settings into the example file and the README'
	@echo 'make bench    measurements side by side; ROUNDS=1 is quick, COMPILED=0 leaves the compiled build out'
	@echo 'make faults   what goes wrong in production, mixed from a seed: SEED=1 SECONDS=600'
	@echo '              KILLS=2000: only the gateway killed so often in the middle of writes under keys'
	@echo '              SHAPE=workers, redis, replicas, pgbouncer or tls for that constellation alone'
	@echo '              COMPILED=1, also with make endurance: on the compiled build, which the container image has'
	@echo 'make faults-seen: the gateway broken on purpose in many ways, and which check sees it: ARGS="RESET COMMIT" for some'
	@echo 'make endurance: an hour of it at a steady rate, sampled each second, judged and drawn: SEED=1 SECONDS=3600, and SHAPE='
	@echo 'make incident 300 programs before a pool of 10: which alert came when'
	@echo 'make bench-growth   how cost and memory grow with rows, columns, connections, pools, tenants, statements'
	@echo 'make bench-workers  one worker and more, beside Postgres and away from it'
	@echo 'make fuzz     bytes guided by coverage: TARGET=exchange RUNS=1000000'
	@echo 'make audit    known vulnerabilities of what is installed with the gateway'
	@echo 'make lock     renew the pinned versions in requirements/'
	@echo 'make clean    remove what was made here, except the data in .sqlhttp'

run: $(VENV)/.run
	@$(if $(PORT),SQLHTTP_LISTEN__PORT='$(PORT)') exec $(BIN)/sqlhttp dev

test: $(VENV)/.dev $(DRIVERS)
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

compiled: .compiled/.built

test-compiled: .compiled/.built $(DRIVERS)
	@PYTHONPATH='$(CURDIR)/.compiled' $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile \
	  --no-loadscope-reorder -m 'not uncompiled' $(or $(ARGS),$(COMPILED_TESTS))

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-growth: $(VENV)/.bench
	@$(BIN)/python -m tests.bench.growth $(if $(ROUNDS),--rounds $(ROUNDS)) $(ARGS)

bench-workers: $(VENV)/.dev
	@$(BIN)/python -m tests.bench.workers $(if $(ROUNDS),--rounds $(ROUNDS)) $(ARGS)

# The short form draws nothing, so that it needs nothing more than the tests do. What the image ships is measured beside
# the plain build, where it can be compiled and COMPILED is not 0.
bench: $(if $(filter-out 0,$(SHORT)),$(VENV)/.dev,$(VENV)/.bench)
	@compiled=0; if [ '$(COMPILED)' != 0 ] && $(BIN)/python gateway/compile.py; then \
	  $(MAKE) --no-print-directory compiled && compiled=1; \
	fi; \
	COMPILED=$$compiled $(BIN)/python -m tests.bench $(if $(ROUNDS),--rounds $(ROUNDS)) $(ARGS)

audit: $(VENV)/.dev
	@$(PIP) install 'pip-audit>=2.9'
	@$(BIN)/pip-audit --disable-pip --require-hashes --progress-spinner off -r requirements/gateway.txt

fuzz: $(VENV)/.dev
	@$(PIP) install atheris==3.0.0
	@mkdir -p .fuzz/$(TARGET)
	@$(BIN)/python -m tests.fuzz.coverage_guided $(TARGET) -runs=$(or $(RUNS),1000000) -max_len=2000 .fuzz/$(TARGET)

faults: $(VENV)/.dev $(BUILT)
	@$(ON_BUILD) $(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS)) \
	  $(if $(KILLS),--kills $(KILLS)) $(if $(SHAPE),--shape $(SHAPE)) $(ARGS)

faults-seen: $(VENV)/.dev
	@$(BIN)/python -m tests.faults.broken $(ARGS)

endurance: $(VENV)/.bench $(BUILT)
	@$(ON_BUILD) $(BIN)/python -m tests.faults.endurance $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS)) \
	  $(if $(SHAPE),--shape $(SHAPE)) $(ARGS)

incident: $(VENV)/.dev
	@$(BIN)/python -m tests.bench.incident

docs: $(VENV)/.dev
	@$(BIN)/python -m tests.support.documents

clean:
	rm -rf $(VENV) .compiled .fuzz tests/contract/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist build

# Each stamp is newer than all that it stands for.

$(VENV)/.run: $(VENV)/.python pyproject.toml requirements/build.txt requirements/gateway.txt requirements/embedded.txt
	@echo 'Installing what the gateway needs into $(VENV) …'
	@$(PIP) install --require-hashes -r requirements/build.txt -r requirements/gateway.txt -r requirements/embedded.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@echo 'Installing what the tests need into $(VENV) …'
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

# A folder, and no environment of its own: the same Python and packages, so that nothing differs but the build.
.compiled/.built: $(VENV)/.dev requirements/compile.txt pyproject.toml gateway/compile.py $(SOURCES)
	@echo 'Compiling the hot modules, a minute or two …'
	@$(PIP) install --require-hashes -r requirements/compile.txt
	@rm -rf .compiled
	@HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 $(PIP) wheel --no-deps --no-build-isolation --wheel-dir .compiled/wheel .
	@$(PIP) install --no-deps --target .compiled .compiled/wheel/*.whl
	@touch $@

$(VENV)/.bench: $(VENV)/.dev requirements/bench.txt
	@echo 'Installing what the bench compares with and draws by into $(VENV) …'
	@$(PIP) install --require-hashes -r requirements/bench.txt
	@touch $@

$(VENV)/.python:
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.14 python3.11; do \
	  $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	  python=; \
	done; \
	if [ -z "$$python" ]; then \
	  echo 'sqlhttp needs Python 3.11 or newer with its venv module (python3-venv on Debian and Ubuntu).' >&2; \
	  echo 'None was found; name one with PYTHON=/path/to/python3.' >&2; \
	  exit 1; \
	fi; \
	$$python -m venv $(VENV) && touch $@

tests/contract/node_modules/.package-lock.json: tests/contract/package.json tests/contract/package-lock.json
	@echo 'Installing drivers from npm …'
	@cd tests/contract && $(NPM) ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# Every package with its version and the hashes of its files, for all systems and Pythons at once.
COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
  --no-emit-find-links --custom-compile-command 'make lock' $(UPGRADE) pyproject.toml

lock: $(VENV)/.python
	@$(PIP) install uv==$(UV_VERSION)
	$(COMPILE) --group build --output-file requirements/build.txt
	$(COMPILE) --extra gateway -c requirements/build.txt --output-file requirements/gateway.txt
	$(COMPILE) --extra embedded -c requirements/gateway.txt --output-file requirements/embedded.txt
	$(COMPILE) --group test --group check -c requirements/build.txt -c requirements/gateway.txt \
	  -c requirements/embedded.txt --output-file requirements/dev.txt
	$(COMPILE) --group compile -c requirements/build.txt -c requirements/dev.txt --output-file requirements/compile.txt
	$(COMPILE) --group bench -c requirements/gateway.txt -c requirements/dev.txt --output-file requirements/bench.txt
