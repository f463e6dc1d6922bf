"""What one model did, for /metrics: Triton counts an error response as a success, so it cannot be asked.

anneal_serving_answers_total{model, finish_reason}   rows answered ("stop", "length") or requests refused ("error")
anneal_serving_tokens_total{model, direction}        tokens read ("input") and decoded ("output")
anneal_serving_batch_seconds{model}                  histogram: time from taking a batch to its answers
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from anneal_serving.loading import Answer

BUCKETS_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]


class Metrics:
    """The metric families of one model; `pb_utils` is Triton's module, handed in by the backend."""

    def __init__(self, pb_utils: Any, model: str) -> None:
        family = pb_utils.MetricFamily
        # The families must outlive their metrics: Triton drops both when Python collects them.
        self._families = {
            name: family(name=f"anneal_serving_{name}", description=description, kind=kind)
            for name, description, kind in (
                ("answers_total", "Rows answered, by how they ended", family.COUNTER),
                ("tokens_total", "Tokens read and decoded", family.COUNTER),
                ("batch_seconds", "Seconds from taking a batch to its answers", family.HISTOGRAM),
            )
        }
        answers, tokens = self._families["answers_total"], self._families["tokens_total"]
        self._answers = {
            reason: answers.Metric(labels={"model": model, "finish_reason": reason})
            for reason in ("stop", "length", "error")
        }
        self._tokens = {
            direction: tokens.Metric(labels={"model": model, "direction": direction})
            for direction in ("input", "output")
        }
        self._seconds = self._families["batch_seconds"].Metric(labels={"model": model}, buckets=BUCKETS_SECONDS)

    @staticmethod
    def now() -> float:
        return time.monotonic()

    def count(self, answers: Sequence[Answer], started: float) -> None:
        """One batch that was answered, taken up at `started` (seconds of `now`)."""
        if not answers:
            return
        for reason, rows in Counter(a.finish_reason for a in answers).items():
            self._answers[reason].increment(rows)
        self._tokens["input"].increment(sum(a.input_tokens for a in answers))
        self._tokens["output"].increment(sum(a.output_tokens for a in answers))
        self._seconds.observe(self.now() - started)

    def refuse(self, requests: int) -> None:
        """Requests that got an error instead of an answer."""
        if requests:
            self._answers["error"].increment(requests)
