# Onebook. `make` alone lists the targets. PYTHON chooses the interpreter for .venv (CPython 3.11 to 3.13).
PYTHON ?= python3
BIN := .venv/bin
PACKAGES := base db ledger exchange tariff fiat custody chain wallet treasury identity wiring api worker bench railsim cli
WORKERS ?= 3
SECONDS ?= 5
SEED ?= 1
ARGS ?=

# Where this is set, every process that a test starts compiles all modules anew: a fifth of the tests' time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test chaos chaos-planted chaos-ledger needle fuzz fuzz-signer fuzz-chain fuzz-rails check fast format bench up clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: ## install all that's needed into this folder (the others do it by themselves)
	@$(PYTHON) bootstrap.py

demo: setup ## play the journey on a new book and stay up; EXIT=1 leaves when it has been played
	@exec $(BIN)/onebook demo --with-parent $(if $(filter 1,$(EXIT)),--exit,) $(ARGS)

test: setup ## all tests: real PostgreSQL, nodes, signer and bank are started
	@$(BIN)/pytest -n $(WORKERS) --dist worksteal $(ARGS)

chaos: setup ## a whole house under lies, branches, kills and outages; then book = chain = what users were told; SECONDS and SEED
	@exec $(BIN)/python -m tests.chaos --seconds $(if $(filter file,$(origin SECONDS)),60,$(SECONDS)) $(if $(filter file,$(origin SEED)),,--seed $(SEED)) $(ARGS)

chaos-planted: setup ## workers with planted faults, which the chaos run must find out
	@$(BIN)/pytest -q -s tests/chaos/planted_run.py $(ARGS)

chaos-ledger: setup ## eight processes at one book while they and the server are killed, then audit and replay; SECONDS and SEED
	@exec $(BIN)/python -m tests.ledger.chaos --seconds $(if $(filter file,$(origin SECONDS)),60,$(SECONDS)) $(if $(filter file,$(origin SEED)),,--seed $(SEED))

needle: setup ## one unit put in by each of many hands, which a cycle must find; then clean cycles, which must find nothing; SECONDS and SEED
	@exec $(BIN)/python -m tests.needle --seconds $(if $(filter file,$(origin SECONDS)),3600,$(SECONDS)) $(if $(filter file,$(origin SEED)),,--seed $(SEED)) $(ARGS)

fuzz: setup ## random histories against the model, on both engines, one book after the other; SECONDS and SEED
	@exec env SECONDS=$(if $(filter file,$(origin SECONDS)),60,$(SECONDS)) $(if $(filter file,$(origin SEED)),,SEED=$(SEED)) $(BIN)/pytest -q -s tests/ledger/test_stateful.py -k ten_thousand_steps $(ARGS)

fuzz-signer: setup ## altered questions to a real signer, which must neither sign what it shouldn't nor fall; SECONDS and SEED
	@exec $(BIN)/python -m tests.custody.fuzz --seconds $(if $(filter file,$(origin SECONDS)),60,$(SECONDS)) $(if $(filter file,$(origin SEED)),,--seed $(SEED))

fuzz-chain: setup ## random branches, lies and restarts; at the end the book is the chain; SECONDS and SEED
	@exec env SECONDS=$(if $(filter file,$(origin SECONDS)),60,$(SECONDS)) $(if $(filter file,$(origin SEED)),,SEED=$(SEED)) $(BIN)/pytest -q -s tests/faults/test_book_is_the_chain.py $(ARGS)

fuzz-rails: setup ## random histories of cards and PayPal over a bad line; at the end the book is the provider's; SECONDS (for each) and SEED
	@exec env SECONDS=$(if $(filter file,$(origin SECONDS)),60,$(SECONDS)) $(if $(filter file,$(origin SEED)),,SEED=$(SEED)) $(BIN)/pytest -q -s tests/rails/test_any_history.py $(ARGS)

check: setup ## the inner loop: format, types, imports, tidiness, fast tests
	@$(BIN)/ruff format --check $(PACKAGES) tests bootstrap.py hardhat-local/*.py hardhat-local/scenarios
	@$(BIN)/ruff check $(PACKAGES) tests bootstrap.py hardhat-local/*.py hardhat-local/scenarios
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/pytest -n $(WORKERS) -q -m "not slow" $(ARGS)

format: setup ## put the code into its form
	@$(BIN)/ruff format $(PACKAGES) tests bootstrap.py hardhat-local/*.py hardhat-local/scenarios
	@$(BIN)/ruff check --fix $(PACKAGES) tests bootstrap.py hardhat-local/*.py hardhat-local/scenarios

bench: setup ## measure this machine, every area; SECONDS and SEED, ARGS=--record renews bench/RESULTS.md
	@exec $(BIN)/onebook bench all --seconds $(SECONDS) --seed $(SEED) $(ARGS)

up: setup ## run the service by ./onebook.toml
	@exec $(BIN)/onebook up $(ARGS)

clean: ## remove what setup, demo and tests made; never touches production data
	@if [ -x $(BIN)/onebook ]; then $(BIN)/onebook demo --clean; fi
	@rm -rf .venv .onebook .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache hardhat-local/node_modules hardhat-local/artifacts hardhat-local/cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
