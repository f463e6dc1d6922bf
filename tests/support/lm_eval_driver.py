"""Runs in lm-eval's environment: commands of the plugin, and lm-eval itself on the same answers, as the reference.

Reads a list of jobs from standard input and writes what came of each, as a JSON list in the last line.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from typing import Any

import lm_eval
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from anneal_lm_eval.__main__ import main


class Replay(LM):
    """A model that gives the answers it is told, by number of the document, and ends where a task wants it to end."""

    tokenizer_name = "replay"

    def __init__(self, answers: list[str]) -> None:
        super().__init__()
        self.answers = answers
        self.asked: dict[int, Any] = {}

    def generate_until(self, requests: list[Any]) -> list[str]:
        said = []
        for request in requests:
            context, options = request.args
            self.asked[request.doc_id] = json.loads(context)
            ends = "|".join(map(re.escape, options["until"])) or r"\Z"
            said.append(re.split(ends, self.answers[request.doc_id])[0])
        return said

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> str:
        return json.dumps(messages)

    def chat_template(self, _: Any = False) -> str:
        return "replay"

    def loglikelihood(self, requests: list[Any]) -> Any:
        raise AssertionError("only texts are asked for")

    loglikelihood_rolling = loglikelihood


def evaluated(job: dict[str, Any]) -> dict[str, Any]:
    """What lm-eval says of answers: the messages it asked, and of every filter the metrics of each document."""
    model = Replay(job["answers"])
    found = lm_eval.simple_evaluate(
        model,
        tasks=[job["task"]],
        task_manager=TaskManager(include_path=job["tasks"], include_defaults=False),
        apply_chat_template=True,
        fewshot_as_multiturn=job.get("multiturn", False),
        num_fewshot=job.get("shots"),
        limit=job.get("limit"),
        bootstrap_iters=0,
    )
    scores: dict[str, dict[str, list[float]]] = {}
    for sample in found["samples"][job["task"]]:
        for metric in sample["metrics"]:
            of_filter = scores.setdefault(sample["filter"], {})
            of_filter.setdefault(metric, []).append(float(sample[metric]))
    return {"asked": [model.asked[number] for number in sorted(model.asked)], "scores": scores}


def commanded(job: dict[str, Any]) -> dict[str, Any]:
    """What a command of the plugin said, and how it ended."""
    said, told = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(told):
        code = main(job["command"])
    return {"code": code, "said": said.getvalue(), "told": told.getvalue()}


if __name__ == "__main__":
    jobs = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        results = [commanded(job) if "command" in job else evaluated(job) for job in jobs]
    print(json.dumps(results))
