"""Answers that somebody brings along: a hosted baseline in a cluster that cannot reach it.

The file is one that an earlier Evaluation left (`responses-<baseline>.jsonl`), elsewhere or long ago. Its digest is
demanded, and each answer is taken by its key, which covers the row, its messages, the model with its URL and settings,
and the limit: an answer to anything else is not one. Nobody is asked, so what is missing is an error of the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from anneal.api.artifacts import digest_of_bytes
from anneal.api.runs import EvaluateRun
from anneal_evaluator.errors import ANSWERS_MISSING, DIGEST_MISMATCH, mistake
from anneal_hosted.answers import AnswerFile, answers_in
from anneal_hosted.asking import Question


def replay_answers(run: EvaluateRun, asked: Sequence[Question], files: Mapping[str, AnswerFile]) -> None:
    """Copies into `files` the answers that baselines bring along. Raises EvaluationError unless that is all of them."""
    for baseline in run.baselines:
        if baseline.answers is None:
            continue
        uri, wanted = baseline.answers.uri, [q for q in asked if q.model == baseline.name]
        try:
            content = Path(run.answers[baseline.name]).read_bytes()
        except (FileNotFoundError, IsADirectoryError) as error:
            said = f"The answers of baseline {baseline.name} are not there: {uri} is no file. Copy them into the claim."
            raise mistake(ANSWERS_MISSING, said) from error
        if (digest := digest_of_bytes(content)) != baseline.answers.digest:
            raise mistake(
                DIGEST_MISMATCH,
                f"The answers {uri} of baseline {baseline.name} have the digest {digest}, demanded is"
                f" {baseline.answers.digest}. Copy the file again, or correct the digest: `files` in the report.json"
                " beside the original has it.",
            )
        stored = {answer.key: answer for answer in answers_in(content)}
        missing = [q for q in wanted if q.key not in stored]
        if missing:
            what = "held-out rows" if run.generation.epochs == 1 else "questions (rows by epochs)"
            raise mistake(
                ANSWERS_MISSING,
                f"{uri} answers {len(wanted) - len(missing)} of {len(wanted)} {what} for baseline"
                f" {baseline.name}, and not row {missing[0].row.id[:100]!r}. It must come from an Evaluation of the"
                " same held-out rows, asked as often, with the same URL, model, settings and maxTokens of that"
                " baseline.",
            )
        for question in wanted:
            if not files[question.model].was_asked(question.key):
                files[question.model].append(stored[question.key].model_copy(update={"reused": True}))
