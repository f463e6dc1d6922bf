"""The documents of a task as rows: asked in lm-eval's own words, which are taken from its own building of requests."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lm_eval.api.task import ConfigurableTask
from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED

from anneal_lm_eval.errors import TaskError
from anneal_lm_eval.items import Origin, row
from anneal_lm_eval.tasks import Config, digest_of, with_data


@dataclass(frozen=True)
class Choice:
    """Which rows, and how they ask."""

    shots: int | None = None
    """Solved examples before each question; None: as many as the task's file says."""
    multiturn: bool = False
    """Examples as turns of the chat, not as text before the question."""
    limit: int | None = None
    """The first so many documents; None: all."""
    seed: int = DEFAULT_OTHER_SEED
    """Of the choice of examples; lm-eval's own default."""
    sealed: bool = False


def rows_of(name: str, config: Config, choice: Choice, category: str) -> Iterator[dict[str, Any]]:
    """One row for each document, in their order. Raises TaskError."""
    # As lm-eval's entry does: a task may draw its documents.
    random.seed(DEFAULT_RANDOM_SEED)
    np.random.seed(DEFAULT_OTHER_SEED)
    task = with_data(name, config)
    digest = digest_of(config)
    for instance in _instances(name, task, choice):
        doc = _plain(name, instance.doc_id, instance.doc)
        origin = Origin(name, instance.doc_id, doc, task.multiple_target, digest)
        messages = json.loads(instance.arguments[0])
        yield row(messages, _reference(name, task, instance), category, origin, sealed=choice.sealed)


def _instances(name: str, task: ConfigurableTask, choice: Choice) -> Sequence[Any]:
    given = task.config.num_fewshot
    if choice.shots is not None and given == 0 and choice.shots > 0:
        raise TaskError(f"Task {name} is one without examples (num_fewshot: 0 in its file), so --shots has no place")
    task.set_config("num_fewshot", (given or 0) if choice.shots is None else choice.shots)
    task.set_fewshot_seed(choice.seed)
    try:
        task.build_all_requests(
            limit=choice.limit,
            apply_chat_template=True,
            fewshot_as_multiturn=choice.multiturn,
            chat_template=_as_json,
        )
    except Exception as error:
        raise TaskError(f"Task {name} cannot be asked: {type(error).__name__}: {error}") from error
    found: Sequence[Any] = task.instances
    return found


def _as_json(messages: Sequence[dict[str, str]], **_: Any) -> str:
    """In place of a chat template, which the server has: the messages themselves."""
    return json.dumps(messages, ensure_ascii=False)


def _reference(name: str, task: ConfigurableTask, instance: Any) -> str:
    """The right answer, or the first of several, for whoever reads the report; scores do not depend on it."""
    target = task.doc_to_target(instance.doc)
    if task.config.doc_to_choice is not None and isinstance(target, int):
        target = task.doc_to_choice(instance.doc)[target]
    if isinstance(target, list | tuple):
        target = target[0] if target else ""
    return str(target).strip()


def _plain(name: str, doc_id: int, doc: Any) -> dict[str, Any]:
    """The document as JSON has it. Raises TaskError where it would come back as another one."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(doc, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TaskError(f"Document {doc_id} of task {name} holds what JSON does not have: {error}") from error
    if plain != doc:
        raise TaskError(f"Document {doc_id} of task {name} is not the same once it was written as JSON")
    return plain
