# Everything a fresh Debian or Ubuntu machine needs is installed by these targets; nothing outside .venv is
# touched except missing Debian packages when run as root.
SHELL := /bin/sh
.DEFAULT_GOAL := help
PY = .venv/bin/python
PIP = .venv/bin/pip --disable-pip-version-check -q
LOCKED = install --only-binary=:all: --require-hashes

.PHONY: help demo test check test-web test-fast test-clients test-podman test-deep fuzz bench bench-peers lock wire clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

.venv/.ready: requirements.lock requirements-build.lock pyproject.toml
	@PYTHON=$$(tools/find-python 2>/dev/null) tools/system-packages python3:python3 python3-venv ca-certificates curl
	@[ -x $(PY) ] || "$$(tools/find-python)" -m venv .venv
	@echo "Installing locked packages into .venv ..."
	@$(PIP) $(LOCKED) -r requirements.lock -r requirements-build.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev: .venv/.ready requirements-dev.lock .venv/.programs
	@tools/system-packages git util-linux:setpriv passwd:useradd iproute2:ip
	@$(PIP) $(LOCKED) -r requirements-dev.lock
	@touch $@

# Programs that tests run inside sandboxes: small ones always, compilers and a database for test-clients.
PROGRAMS = tests/e2e/programs
.venv/.programs: .venv/.ready requirements-programs.lock $(PROGRAMS)/package.json $(PROGRAMS)/package-lock.json
	@tools/system-packages wget openssl openssh-client:ssh netcat-openbsd:nc openssh-sftp-server:/usr/lib/openssh/sftp-server rsync nodejs:node npm python3-pip:/usr/bin/pip3 bind9-dnsutils:dig busybox
	@rm -rf .venv/programs && mkdir -p .venv/programs
	@$(PIP) $(LOCKED) --target .venv/programs/python -r requirements-programs.lock
	@cp $(PROGRAMS)/package.json $(PROGRAMS)/package-lock.json .venv/programs/
	@npm ci --prefix .venv/programs --silent --no-audit --no-fund
	@touch $@

.venv/.heavy: .venv/.dev
	@tools/system-packages golang-go:go default-jdk-headless:javac postgresql:pg_ctlcluster postgresql-client:psql
	@touch $@

demo: .venv/.ready ## run the whole agent loop for real: deny, propose, review, approve, retry
	@.venv/bin/openshell demo $(if $(ARGS),$(ARGS),$(shell [ -t 0 ] || echo --yes))

check: .venv/.dev ## style, types, import directions, generated files
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo
	$(PY) tools/generate_wire.py --check
	$(PY) tools/generate_policy_docs.py --check
	$(PY) tools/generate_rpc_table.py --check

test: check ## style, types and every test but test-clients and test-deep
	.venv/bin/pytest -n 2 --dist loadgroup -m "not deep and not heavy and not browser"

test-web: .venv/.dev ## the web inbox in a real Chromium
	@tools/system-packages chromium
	.venv/bin/pytest tests/web -m browser

test-fast: .venv/.dev ## without real sandboxes
	.venv/bin/pytest -n 2 -m "not e2e and not deep and not browser"

test-clients: .venv/.heavy ## Go, Java and PostgreSQL in sandboxes, the store on PostgreSQL; CI runs it too
	.venv/bin/pytest -n 2 --dist loadgroup -m heavy

# What every driver must be and do; --driver says which.
CONTRACT = tests/podman tests/drivers tests/isolation/test_walls.py tests/isolation/test_identity.py \
  tests/isolation/test_filesystem_policy.py tests/e2e/test_loop.py

test-podman: .venv/.dev ## the driver contract, walls and loop in containers of Podman
	@tools/system-packages podman runc uidmap:newuidmap busybox
	.venv/bin/pytest -n 0 --driver podman $(CONTRACT)

test-deep: .venv/.dev ## long property runs
	.venv/bin/pytest -m deep --timeout 3600 -s

.fuzz/.ready: .venv/.dev requirements-fuzz.lock
	@$(PY) -c 'import platform, sys; v = sys.version_info; ok = (3, 11) <= v[:2] <= (3, 13) and platform.machine() == "x86_64"; sys.exit(0 if ok else "Atheris has no wheel for this Python and machine: use CPython 3.11 to 3.13 on x86_64")'
	@rm -rf .fuzz/atheris
	@$(PIP) $(LOCKED) --target .fuzz/atheris -r requirements-fuzz.lock
	@touch $@

fuzz: .fuzz/.ready ## coverage-guided fuzzing of every parser; ARGS="socks dns" for some, FUZZ_SECONDS each
	@$(PY) -m tests.fuzz $(ARGS)

bench: .venv/.dev bench-peers ## measure against the budgets and the named peers
	@for b in benchmarks/[a-z]*.py benchmarks/proxy; do echo "== $$b"; $(PY) -m "$$(echo $${b%.py} | tr / .)" || exit 1; done

.bench/.ready: .venv/.dev benchmarks/proxy/programs.py benchmarks/proxy/lg.c
	@tools/system-packages gcc libssl-dev:/usr/include/openssl/ssl.h
	@$(PY) -m benchmarks.proxy.programs
	@touch $@

bench-peers: .bench/.ready ## what the proxy benchmark compares with, unpacked into .bench: nothing installed, no service

wire: .venv/.dev ## regenerate the message classes from the .proto files
	$(PY) tools/generate_wire.py

lock: ## renew the lock files (needs uv)
	for f in "requirements.lock:" "requirements-dev.lock:--group dev"; do \
	  uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q \
	    pyproject.toml $${f#*:} -o $${f%%:*}; done
	printf 'requests\nhttpx\naiohttp\n' | uv pip compile --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header -q - -o requirements-programs.lock
	printf 'atheris\n' | uv pip compile --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header -q - -o requirements-fuzz.lock
	printf 'hatchling\neditables\n' | uv pip compile --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header -q - -o requirements-build.lock

clean: ## remove .venv, .bench and caches
	rm -rf .venv .bench .fuzz .mypy_cache .ruff_cache .pytest_cache .hypothesis
