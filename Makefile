.PHONY: help demo test test-slow test-containers check serve images lock mura profile-mura recipe-seed clean
.DEFAULT_GOAL := help

PYTHON ?= python3.11
BIN := .venv/bin
# Steps are called as `python -m ...`, by DVC too: they must find this environment's python.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Versions and hashes for every platform, and no address of where they came from.
COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-annotate --custom-compile-command "make lock" --quiet
# Of each lock file: what it is resolved for. An image's is part of what was locked for all.
OF_requirements := --all-extras
OF_components/requirements := --extra components --extra pipeline --constraint requirements.lock
OF_serving/requirements := --extra serving --constraint requirements.lock
LOCKS := requirements components/requirements serving/requirements

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# The lock file is complete: resolved again, pip would ask a hash for `pydantic[email]` of its own.
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-deps --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: .venv/installed ## train, prove, register, approve and ask the served model about two studies
	dvc repro
	test -f keys/release.pub || python -m serving.release keys
	python -m serving.release approve candidate --by "make demo" --reason "demonstration" --yes
	python -m serving.demo --archive data/MURA-sim.zip

test: .venv/installed ## run the tests
	pytest

test-slow: .venv/installed ## run the journeys that take long: kills, whole evaluations of odd inputs, a team on an S3 server
	pytest -m slow

test-containers: .venv/installed ## run the images and the pipeline in them: needs Docker, or root on Debian; 20 GB, 10 minutes
	pytest -m containers --numprocesses=0 tests/containers

check: .venv/installed ## lint, types, import contracts, lock file
	ruff format --check .
	ruff check .
	mypy
	lint-imports
	$(foreach lock,$(LOCKS),cp $(lock).lock .venv/resolved.lock && \
		$(COMPILE) $(OF_$(lock)) --output-file .venv/resolved.lock && \
		(diff $(lock).lock .venv/resolved.lock || (echo "$(lock).lock is stale: make lock"; false)) &&) true

images: .venv/installed ## build the two images (BASE=, INDEX_URL=, CA_BUNDLE= for a closed network)
	python -m pipeline.images $(if $(BASE),--base "$(BASE)") \
		$(if $(INDEX_URL),--index-url "$(INDEX_URL)") $(if $(CA_BUNDLE),--ca-bundle "$(CA_BUNDLE)")

serve: .venv/installed ## serve the approved model on http://127.0.0.1:8080
	python -m serving

lock: .venv/installed ## resolve requirements.lock, and the images' parts of it, from pyproject.toml
	$(foreach lock,$(LOCKS),$(COMPILE) $(OF_$(lock)) --output-file $(lock).lock &&) true

mura: .venv/installed ## put MURA under DVC: make mura ARCHIVE=<zip, folder or s3:// URL> TERMS=accepted
	python -m components.adopt --archive "$(ARCHIVE)" $(if $(filter accepted,$(TERMS)),--accept-terms)

profile-mura: ## put the full-size MURA recipe in place of the demonstration's params.yaml
	cp profiles/mura.yaml params.yaml

recipe-seed: .venv/installed ## train as the system did that bonexray started from
	python -m components.recipe recipes/seed.yaml

clean: ## remove what the flow wrote (approvals, keys, registry and DVC's cache stay)
	rm -rf data/MURA-sim.zip data/dataset data/validated data/policy models bundle reports \
		dvc_plots pipeline.yaml
