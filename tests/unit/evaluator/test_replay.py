"""Answers that are brought along: those of the same questions alone, from exactly the file that was named, or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.hosted_models import Said, hosted_models
from tests.unit.evaluator.hosted import ask, hosted_run, rows

from anneal.api.artifacts import digest_of_file
from anneal.api.runs import EvaluateRun
from anneal_evaluator.errors import EvaluationError
from anneal_evaluator.replay import replay_answers
from anneal_evaluator.respond import questions
from anneal_hosted.answers import AnswerFile
from anneal_hosted.endpoints import hosted_endpoint

ROWS = rows("one", "two", "three")


async def stored(directory: Path) -> tuple[EvaluateRun, Path]:
    """The run of an online evaluation, and the answers that it left."""
    with hosted_models(lambda asked: Said("yes", model="gpt-5-2025-08-07", usage=(3, 1))) as models:
        run = hosted_run(models.url)
        await ask(run, directory, ROWS)
    return run, directory / "responses-gpt.jsonl"


def offline(run: EvaluateRun, path: Path, digest: str | None = None, **model: Any) -> EvaluateRun:
    """The same run in a cluster that cannot reach the model; `model` is laid over what is said of it."""
    baseline = run.baselines[0].to_json()
    baseline["hosted"]["openAI"] |= model
    baseline["answers"] = {"uri": "pvc://models/gpt.jsonl", "digest": digest or digest_of_file(path)}
    changed = {**run.to_json(), "baselines": [baseline], "answers": {"gpt": str(path)}}
    return EvaluateRun.model_validate(changed)


async def replayed(run: EvaluateRun, directory: Path, **more: Any) -> dict[str, AnswerFile]:
    hosted = run.baselines[0].hosted
    assert hosted is not None
    version = await hosted_endpoint("gpt", hosted, None, None).version()  # type: ignore[arg-type] - asks nobody
    asked = [q for q in questions(run, more.get("rows", ROWS), {"candidate": "", "gpt": version}) if q.model == "gpt"]
    files = {"gpt": AnswerFile(directory / "replayed.jsonl")}
    replay_answers(run, asked, files)
    assert all(files["gpt"].was_asked(q.key) for q in asked)
    return files


async def test_answers_are_taken_over_and_marked_and_a_second_time_changes_nothing(tmp_path: Path) -> None:
    run, path = await stored(tmp_path)
    for _ in range(2):
        files = await replayed(offline(run, path), tmp_path)
        lines = files["gpt"].path.read_text().splitlines()
        assert len(lines) == 3
        assert all('"text":"yes"' in line and '"reused":true' in line for line in lines)


async def test_another_file_than_the_one_named_is_refused(tmp_path: Path) -> None:
    run, path = await stored(tmp_path)
    demanded = digest_of_file(path)
    path.write_bytes(path.read_bytes().replace(b"yes", b"no!", 1))
    with pytest.raises(EvaluationError, match=r"pvc://models/gpt\.jsonl of baseline gpt have the digest") as raised:
        await replayed(offline(run, path, demanded), tmp_path)
    assert raised.value.reason == "DigestMismatch"
    assert not (tmp_path / "replayed.jsonl").exists(), "nothing was taken"


async def test_answers_to_other_questions_are_no_answers(tmp_path: Path) -> None:
    run, path = await stored(tmp_path)
    with pytest.raises(EvaluationError, match=r"answers 3 of 4 held-out rows for baseline gpt, and not row 'four'"):
        await replayed(offline(run, path), tmp_path, rows=[*ROWS, *rows("four")])
    with pytest.raises(EvaluationError, match="answers 0 of 3"):
        await replayed(offline(run, path, model="gpt-4"), tmp_path)
    with pytest.raises(EvaluationError, match="answers 0 of 3"):
        await replayed(offline(run, path, temperature="0"), tmp_path)


async def test_no_file_is_said(tmp_path: Path) -> None:
    run, path = await stored(tmp_path)
    moved = offline(run, path)
    path.unlink()
    with pytest.raises(EvaluationError, match=r"pvc://models/gpt\.jsonl is no file") as raised:
        await replayed(moved, tmp_path)
    assert (raised.value.reason, raised.value.retryable) == ("AnswersMissing", False)
