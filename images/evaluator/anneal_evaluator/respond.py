"""The questions of an evaluation: every model every row, as often as it is asked, and whether they can be compared."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from anneal.api.artifacts import digest_of_json
from anneal.api.runs import EvaluateRun
from anneal_evaluator.errors import PROMPTS_DIFFER, mistake
from anneal_evaluator.held_out import HeldOutRow
from anneal_hosted.answers import AnswerFile
from anneal_hosted.asking import Question


def questions(run: EvaluateRun, rows: list[HeldOutRow], versions: Mapping[str, str]) -> list[Question]:
    """Every row for every model, rows outermost and epochs next, so that no model is ahead of the others.

    `versions` says by model what answers. A model that decodes greedily is asked in the first epoch alone.
    """
    hosted = {name: baseline.hosted for name, baseline in zip(run.models[1:], run.baselines, strict=True)}
    found = []
    for row, epoch in itertools.product(rows, range(run.generation.epochs)):
        for index, model in enumerate(run.models):
            if epoch >= run.times_asked(index):
                continue
            endpoint = hosted.get(model)
            limit = (endpoint and endpoint.max_tokens) or run.generation.max_tokens
            key = question_key(run, index, row, versions[model], limit, epoch)
            found.append(Question(model, row, key, limit, endpoint))
    return found


def question_key(run: EvaluateRun, model: int, row: HeldOutRow, version: str, max_tokens: int, epoch: int = 0) -> str:
    """Digest of everything that decides the answer of model number `model` (0 is the candidate) to `row`.

    Epochs after the first have keys of their own, so that each has an answer of its own; what the first one said to an
    evaluation without epochs is taken over.

    The candidate's digest is part of every served model's, since its chat template renders the prompts of the
    baselines too. A hosted model's answer depends on no artifact of ours.
    """
    asked = {"row": row.id, "messages": [m.to_json() for m in row.messages], "maxTokens": max_tokens}
    asked |= {"tools": row.tools} if row.tools else {}
    asked |= {"epoch": epoch} if epoch else {}
    if model > 0 and run.baselines[model - 1].hosted is not None:
        return digest_of_json({"hosted": version, **asked})
    temperature = float(run.generation.temperature)
    asked |= {"temperature": temperature} if temperature else {}
    return digest_of_json({"model": run.digest_of(model), "template": run.candidate_digest, "server": version, **asked})


def check_prompts(run: EvaluateRun, asked: list[Question], files: Mapping[str, AnswerFile]) -> None:
    """Raises EvaluationError unless the candidate and its base were asked prompts of the same length, row by row.

    A chat template that differs between the two moves scores by several points and looks like a better model.
    """
    same_base = {run.models[0]} | {
        name for name, baseline in zip(run.models[1:], run.baselines, strict=True) if baseline.from_candidate
    }
    lengths: dict[str, tuple[str, int]] = {}
    for question in asked:
        tokens = files[question.model][question.key].input_tokens
        if question.model not in same_base or not tokens:
            continue
        model, expected = lengths.setdefault(question.row.id, (question.model, tokens))
        if tokens != expected:
            raise mistake(
                PROMPTS_DIFFER,
                f"Row {question.row.id!r} was rendered to {expected} tokens for {model} but to {tokens} for"
                f" {question.model}: their chat templates differ, so their scores cannot be compared.",
            )
