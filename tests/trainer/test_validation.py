"""Validation: rows that are not learned choose the step that is published, and end a training that gains nothing."""

from __future__ import annotations

import json
import shutil

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tests.trainer.job import FAST, Job
from tests.trainer.test_chain import AfterPasses, folders, outcome
from transformers import AutoModelForCausalLM

from anneal.api.artifacts import digest_of_file
from anneal.api.dataset import DatasetSplit
from anneal.api.methods import Full, Method
from anneal.api.training import CheckpointPolicy, EarlyStopping, Validation
from anneal_trainer import rows
from anneal_trainer.errors import UserMistake
from anneal_trainer.fit.state import TrainingState
from anneal_trainer.fit.validation import split
from anneal_trainer.prepare.template import Rendered
from anneal_trainer.rows import TrainingRows, flatten

#: So fast that it soon learns rows by heart.
HASTY = FAST.model_copy(
    update={
        "max_steps": 60,
        "learning_rate": "5e-2",
        "schedule": "Constant",
        "checkpoint": CheckpointPolicy(every_steps=1000, keep=1),
        "validation": Validation(rows=5, every_steps=3),
        "early_stopping": EarlyStopping(patience=2),
    }
)


def rows_of(prompts: list[int]) -> TrainingRows:
    return flatten([Rendered([1, p + 2, 3, i % 7], [False, False, False, True]) for i, p in enumerate(prompts)])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=40), st.integers(0, 5), st.integers(1, 5))
def test_rows_with_one_prompt_stay_on_one_side(prompts: list[int], seed: int, wanted: int) -> None:
    given_rows = rows_of(prompts)
    try:
        learned, held = split(given_rows, Validation(rows=wanted), seed)
    except UserMistake as error:
        assert "which leaves 0 to learn from" in error.message
        return
    assert sorted([*learned, *held]) == list(range(len(prompts)))
    assert not {prompts[i] for i in learned} & {prompts[i] for i in held}
    assert len(held) >= wanted
    again = split(given_rows, Validation(rows=wanted), seed)
    assert np.array_equal(held, again[1])


def test_a_fraction_is_of_the_training_rows() -> None:
    learned, held = split(rows_of(list(range(40))), Validation(fraction="0.25"), 1)
    assert (len(learned), len(held)) == (30, 10)


def test_one_prompt_cannot_be_on_two_sides(job: Job) -> None:
    job.rows = [{"prompt": "the same", "completion": f"{i}"} for i in range(30)]
    job.split = DatasetSplit(held_out=0)
    job.training = FAST.model_copy(update={"validation": Validation(rows=3)})
    result = job.fitted()
    assert (result.outcome, result.reason) == ("Failed", "TooFewExamples")
    assert "(1 different prompts)" in result.message


def test_training_ends_when_nothing_is_gained_and_the_best_step_is_published(job: Job) -> None:
    job.training, job.method = HASTY, Method(full=Full())
    prepared = job.prepared()
    fitted = job.do(job.fit_run(prepared))
    assert fitted.fit is not None, fitted.message
    trained = fitted.fit.training
    assert trained.best_step is not None
    assert trained.best_step < trained.steps < 60
    assert trained.remarks == [f"ended early at step {trained.steps} of 60: the validation loss fell no more"]
    assert folders(job) == [f"step-{step:08d}" for step in (trained.best_step, trained.steps)]
    assert job.do(job.fit_run(prepared)) == fitted, "a pod that starts again finds it done"

    result = job.do(job.publish_run(prepared, fitted))
    assert result.publish is not None, result.message
    folder = job.output / result.publish.uri.rpartition("/")[2]
    best = load_file(job.workspace / "checkpoints" / f"step-{trained.best_step:08d}" / "masters.safetensors")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert all(torch.equal(p, best[name]) for name, p in model.named_parameters())
    assert f"step {trained.best_step} had the lowest loss" in (folder / "README.md").read_text()
    assert trained.validation_loss == f"{loss_of(model, job, job.training.validation):.4g}"


def loss_of(model: torch.nn.Module, job: Job, validation: Validation | None) -> float:
    """Mean loss per answer token of the rows set aside, one at a time, by transformers itself."""
    assert validation is not None
    path = job.workspace / "data" / "train.safetensors"
    prepared = rows.read(path, digest_of_file(path))
    total, tokens = 0.0, 0
    for index in split(prepared, validation, job.training.seed)[1]:
        row, labelled = prepared.row(int(index))
        labels = torch.tensor(np.where(labelled, row, -100), dtype=torch.long)[None]
        with torch.no_grad():
            mean = model(input_ids=torch.tensor(row, dtype=torch.long)[None], labels=labels).loss
        total, tokens = total + float(mean) * int(labelled.sum()), tokens + int(labelled.sum())
    return total / tokens


def test_an_interrupted_training_sees_and_decides_the_same(job: Job) -> None:
    job.training = HASTY.model_copy(update={"max_steps": 9})
    run = job.fit_run(job.prepared())
    assert job.do(run).outcome == "Succeeded"
    whole = outcome(job)
    last = json.loads((job.workspace / "checkpoints" / folders(job)[-1] / "state.json").read_text())["validated"]
    shutil.rmtree(job.workspace / "checkpoints")
    assert job.do(run, AfterPasses(8)).outcome == "Preempted"
    assert job.do(run).outcome == "Succeeded"
    assert outcome(job) == whole
    again = json.loads((job.workspace / "checkpoints" / folders(job)[-1] / "state.json").read_text())["validated"]
    assert again == last


def test_a_gain_below_the_least_is_none_but_may_be_the_best() -> None:
    state = TrainingState()
    seen = []
    for state.step, loss in enumerate([1.0, 0.95, 0.8, 0.85, 0.79], 1):
        best = state.validate_with(loss, 0.1)
        assert state.validated is not None
        seen.append((best, state.validated.best_step, state.validated.without_gain))
    assert seen == [(True, 1, 0), (True, 2, 1), (True, 3, 0), (False, 3, 1), (True, 5, 2)]
