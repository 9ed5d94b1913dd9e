PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install run lab test browser test-browser lint notebooks results adapter bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## make .venv and install ftlab with everything for notebooks and tests

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "ftlab needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

run: install  ## the main job on the CPU: baselines, training, evaluation, report (about 15 minutes)
	$(BIN)/ftlab run support_plan --profile cpu --out runs/support_plan --resume

lab: install  ## open the notebooks, on this machine only
	$(BIN)/jupyter lab --ip 127.0.0.1 notebooks

test: install  ## lint, then all tests and notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest --quiet tests
	FTLAB_SPEED=smoke $(BIN)/pytest --quiet --nbval-lax --nbval-current-env --force-enable-socket notebooks

browser: install  ## Debian's Chromium, and what drives it, for make test-browser
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[browser]'

test-browser: install  ## the widgets, used by Chromium in a real JupyterLab; make browser comes first
	$(BIN)/pytest --quiet --force-enable-socket tests/browser

lint: install  ## mend what ruff can mend, show the rest
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

notebooks: install  ## build all notebooks, run them afresh, store outputs, minutes and memory, and write their index
	$(BIN)/python -m ftlab.course.build
	$(BIN)/python -m ftlab.course.measure notebooks/*.ipynb
	$(BIN)/python -m ftlab.notebook --check notebooks/*.ipynb
	$(BIN)/python -m ftlab.course.index

.PHONY: test-binder test-colab
test-binder: install  ## what Binder would do, in a fresh environment, and every notebook under a hard limit of 2 GB
	$(BIN)/python tests/places/binder.py

test-colab: install  ## the first cell and two notebooks where torch and numpy were there before and must stay as they are
	$(BIN)/python tests/places/colab.py

results: install  ## every number that README quotes: the shipped adapters and all baselines on the whole test sets (about half an hour)
	$(BIN)/ftlab run support_plan --profile long --adapter data/support_plan/adapter --out runs/results --publish results --resume
	$(BIN)/ftlab run support_reply --profile long --adapter data/support_reply/adapter --out runs/results_reply --publish results --resume
	$(BIN)/ftlab study noise --json results/noise.json
	$(BIN)/ftlab study fresh --json results/fresh.json
	$(BIN)/ftlab inspect smollm2-135m data/support_plan/adapter --json results/inside.json
	$(BIN)/python -m ftlab.readme

adapter: install  ## train the shipped adapters again, the second task's from the first's (about four hours)
	$(BIN)/ftlab train --task support_plan --profile long --out runs/adapter --resume
	$(BIN)/ftlab train --task support_reply --profile long --adapter runs/adapter --out runs/adapter_reply --resume

PREF := runs/preference
.PHONY: preference
preference: install  ## reward model, DPO and its opponents, conduct under pressure, a hacked reward: results/preference.json (about three hours)
	$(BIN)/ftlab reward train --out $(PREF)/reward --resume
	$(BIN)/ftlab reward score $(PREF)/reward --json $(PREF)/reward_validation.json
	$(BIN)/ftlab reward score $(PREF)/reward --split test --json $(PREF)/reward_test.json
	$(BIN)/ftlab reward best-of-n $(PREF)/reward --json $(PREF)/best_of_n.json
	for seed in 0 1; do \
	  $(BIN)/ftlab dpo --seed $$seed --out $(PREF)/dpo_$$seed --resume && \
	  $(BIN)/ftlab dpo --seed $$seed --sft-weight 0 --out $(PREF)/dpo-alone_$$seed --resume && \
	  $(BIN)/ftlab dpo --seed $$seed --objective sft --out $(PREF)/sft_$$seed --resume || exit 1; \
	done
	for split in validation test; do \
	  $(BIN)/ftlab conduct --split $$split --adapter data/support_reply/adapter --adapter $(PREF)/dpo_0 --adapter $(PREF)/dpo_1 \
	    --adapter $(PREF)/dpo-alone_0 --adapter $(PREF)/dpo-alone_1 --adapter $(PREF)/sft_0 --adapter $(PREF)/sft_1 \
	    --json $(PREF)/conduct_$$split.json || exit 1; \
	done
	$(BIN)/ftlab rl --reward both --out $(PREF)/rl --json $(PREF)/rl.json --resume
	$(BIN)/ftlab preference $(PREF) --json results/preference.json

bench: install  ## our path against the stock one, and how cost grows (about an hour on a quiet machine)
	$(BIN)/ftlab bench all --json results/bench.json
	$(BIN)/ftlab bench growth --json results/growth.json
	$(BIN)/ftlab bench layers --json results/layers.json
	$(BIN)/ftlab bench cost --json results/cost.json
	$(BIN)/python -m ftlab.readme

.PHONY: studies
studies: install  ## what pretraining, a pretrained start and each way of tuning do: every number of docs/experiments.md's tables (hours, resumable)
	$(BIN)/ftlab pretrain-study all --out runs/pretrain-study --json results/pretrain.json --figures results/figures
	$(BIN)/ftlab pretrain-study continued --out runs/pretrain-study --json results/continued.json --figures results/figures
	$(BIN)/ftlab study head-start --model tiny-pretrained --json results/head_start.json
	$(BIN)/ftlab study methods --json results/methods.json
	$(BIN)/python -m ftlab.readme

clean:  ## remove runs and build files, keep the environment and the model cache
	rm -rf runs build dist .pytest_cache .ruff_cache .hypothesis
