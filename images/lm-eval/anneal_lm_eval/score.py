"""Stored answers scored by a task's own filters and metrics, each answer by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import ConfigurableTask

from anneal_lm_eval.errors import TaskError
from anneal_lm_eval.items import Item, cut
from anneal_lm_eval.tasks import Config, digest_of, with_documents


def scores_of(
    name: str, config: Config, items: Sequence[Item], filter_name: str | None, metric: str | None
) -> dict[str, float]:
    """The score of each item, by its id. Raises TaskError; an answer that cannot be scored is no zero."""
    _refuse_others(name, config, items)
    task = with_documents(name, config, [i.origin.doc for i in items], items[0].origin.multiple_target)
    until = task.config.generation_kwargs.get("until") or []
    ends = [until] if isinstance(until, str) else until
    instances = [
        Instance("generate_until", i.origin.doc, ("", {}), 0, (name, i.origin.doc_id, 1), [cut(i.answer, ends)])
        for i in items
    ]
    chosen = _filter(name, task, filter_name)
    try:
        chosen.apply(instances)
    except Exception as error:
        raise TaskError(
            f"Filter {chosen.name} of task {name} cannot read the answers: {type(error).__name__}: {error}"
        ) from error
    return {
        item.id: _score(name, task, item, instance.filtered_resps[chosen.name], metric)
        for item, instance in zip(items, instances, strict=True)
    }


def _refuse_others(name: str, config: Config, items: Sequence[Item]) -> None:
    """Raises TaskError where rows were made from another version of the task: their scores would be of neither."""
    digest = digest_of(config)
    for item in items:
        if item.origin.digest != digest:
            raise TaskError(
                f"Row {item.origin.doc_id} of task {name} was made from other task files or by another lm-eval than"
                " those of this image; make the rows anew with this image, or score with the one that made them"
            )


def _filter(name: str, task: ConfigurableTask, wanted: str | None) -> Any:
    by_name = {one.name: one for one in task._filters}
    if wanted is None and len(by_name) == 1:
        return next(iter(by_name.values()))
    if wanted not in by_name:
        asked = "--filter must say by which" if wanted is None else f"it has no filter {wanted!r}"
        raise TaskError(f"Task {name} reads answers by {', '.join(by_name)}: {asked}")
    return by_name[wanted]


def _score(name: str, task: ConfigurableTask, item: Item, filtered: Any, metric: str | None) -> float:
    try:
        values: Mapping[str, Any] = task.process_results(item.origin.doc, [filtered])
    except Exception as error:
        raise TaskError(
            f"Task {name} cannot score answer {item.id} to its document {item.origin.doc_id}:"
            f" {type(error).__name__}: {error}"
        ) from error
    chosen = _metric(name, values, metric)
    if task.aggregation().get(chosen, mean) is not mean:
        raise TaskError(
            f"Metric {chosen} of task {name} is no mean of the scores of answers, so that its gates would be about"
            " another number than lm-eval's"
        )
    if task.higher_is_better().get(chosen) is False:
        raise TaskError(f"Of metric {chosen} of task {name} less is better, and of the scores of a plugin more is")
    try:
        score = float(values[chosen])
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        raise TaskError(
            f"Metric {chosen} of task {name} has no number for answer {item.id}, but {values[chosen]!r:.80}"
        )
    return score


def _metric(name: str, values: Mapping[str, Any], wanted: str | None) -> str:
    if wanted is None and len(values) == 1:
        return next(iter(values))
    if wanted is not None and wanted in values:
        return wanted
    asked = "--metric must say which" if wanted is None else f"it has no metric {wanted!r}"
    raise TaskError(f"Task {name} measures {', '.join(values)}: {asked}")
