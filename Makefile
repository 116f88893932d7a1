# Every target starts from nothing but Python 3.11+ and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEMO   := demo
EXTRAS ?= train,dev

.PHONY: help install demo test test-all lint types format bench clean

help:  ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

install: $(STAMP)  ## Create .venv and install edgekd with training and development extras

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "edgekd needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $(STAMP)

demo: $(STAMP)  ## Teacher, student, INT8 file, verdict and the table, in the folder demo/
	mkdir -p $(DEMO)
	cd $(DEMO) && ../$(BIN)/edgekd distill --profile tu_accel_150k
	cd $(DEMO) && ../$(BIN)/edgekd export --int8
	cd $(DEMO) && ../$(BIN)/edgekd verify model.onnx

PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --durations 5

test: $(STAMP)  ## The tests, on two cores, without those marked slow
	$(PYTEST) -m "not slow"

test-all: $(STAMP)  ## Every test
	$(PYTEST)

lint: $(STAMP)  ## ruff, rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy --strict
	$(BIN)/mypy

format: $(STAMP)  ## Rewrite files as ruff formats them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## The figures of the README, each beside what it is compared with
	$(BIN)/python tools/bench_help.py
	$(BIN)/python tools/bench_fewshot.py
	$(BIN)/python tools/bench_verify.py
	$(BIN)/python tools/bench_planner.py
	$(BIN)/python tools/bench_parity.py
	$(BIN)/python tools/bench_train.py

clean:  ## Remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
