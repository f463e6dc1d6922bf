"""Tasks as lm-eval loads them, and those that have no place here, each refused with its reason.

Loading a task runs what its file names (`!function`, and its templates): a task file is code of whoever wrote it.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import Kind
from lm_eval.tasks._yaml_loader import load_yaml

from anneal_lm_eval.errors import TaskError

Config = dict[str, Any]

#: What decides a score; other members of a task's file decide which documents there are, and how they are asked.
_SCORED_BY = (
    "task", "output_type", "doc_to_target", "doc_to_choice", "process_results", "metric_list", "filter_list",
    "generation_kwargs", "fewshot_delimiter", "use_prompt",
)  # fmt: skip
#: Members that lead to data, of a task that is to score documents which it is handed.
_OF_DATA = (
    "dataset_path", "dataset_name", "dataset_kwargs", "training_split", "validation_split", "fewshot_split",
    "fewshot_config", "process_docs",
)  # fmt: skip
_HANDED = "handed"


class _Docs(list[dict[str, Any]]):
    """Documents as lm-eval wants a data set: it asks for their features."""

    @property
    def features(self) -> dict[str, None]:
        return dict.fromkeys(self[0])


def config_of(name: str, include: Sequence[Path]) -> Config:
    """The file of a task, functions resolved. Tasks of `include` come before lm-eval's own. Raises TaskError."""
    for path in include:
        if not path.is_dir():
            raise TaskError(f"There is no folder {path}, which --include-path names")
    entry = _entry(name, include)
    if entry is None:
        where = f"in {', '.join(map(str, include))} or " if include else ""
        raise TaskError(f"There is no task {name!r} {where}among those of lm-eval {lm_eval.__version__}")
    if entry.kind in (Kind.GROUP, Kind.TAG):
        raise TaskError(f"{name!r} is a group of tasks; name one of its tasks")
    refuse(name, entry.cfg)
    try:
        config: Config = load_yaml(entry.yaml_path, resolve_func=True)
    except Exception as error:
        raise _cannot_be_loaded(name, error) from error
    return {member: value for member, value in config.items() if member != "tag"}


def refuse(name: str, config: Mapping[str, Any]) -> None:
    """Raises TaskError where answers alone cannot be scored, or not by chat servers' answers."""
    kind = config.get("output_type", "generate_until")
    if "class" in config:
        why = "is a Python class, which loads its data by itself; only task files can be used"
    elif kind != "generate_until":
        why = (
            f"is scored by the probability of given texts (output_type {kind}), which chat servers do not tell; only"
            " tasks with output_type generate_until can be used. Ask for the letter of a choice instead, with the"
            " metric label"
        )
    elif config.get("doc_to_image") or config.get("doc_to_audio"):
        why = "asks with pictures or sound, and rows are text"
    elif int(config.get("repeats") or 1) > 1:
        why = (
            f"asks each question {config['repeats']} times and scores the answers together, and a plugin scores every"
            " answer by itself"
        )
    elif config.get("gen_prefix"):
        why = "begins the answer itself (gen_prefix), which chat servers do not take"
    elif config.get("unsafe_code"):
        why = "runs what the model wrote as code (unsafe_code), which is not done beside the answers of others"
    else:
        return
    raise TaskError(f"Task {name} {why}")


def with_data(name: str, config: Config) -> ConfigurableTask:
    """The task with its documents, which may be fetched for it. Raises TaskError."""
    try:
        return ConfigurableTask(config=deepcopy(config))  # which it completes in place
    except Exception as error:
        raise _cannot_be_loaded(name, error) from error


def with_documents(name: str, config: Config, docs: Sequence[dict[str, Any]], multiple_target: int) -> ConfigurableTask:
    """The task with these documents, to score by: nothing is fetched. Raises TaskError."""
    scoring = {member: value for member, value in config.items() if member not in _OF_DATA}
    scoring |= {"custom_dataset": lambda **_: {_HANDED: _Docs(docs)}, "test_split": _HANDED, "num_fewshot": 0}
    task = with_data(name, scoring)
    task.multiple_target = multiple_target
    return task


def digest_of(config: Mapping[str, Any]) -> str:
    """Of what scores depend on: members of the file, the modules of its functions, the version of lm-eval."""
    parts = {member: config.get(member) for member in _SCORED_BY}
    text = json.dumps([lm_eval.__version__, parts], sort_keys=True, default=_code)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _entry(name: str, include: Sequence[Path]) -> Any:
    """lm-eval's own files are fifteen thousand: they are looked through for a task that is nowhere else."""
    if include:
        own = TaskManager(include_path=[str(path) for path in include], include_defaults=False)
        if name in own.task_index:
            return own.task_index[name]
    return TaskManager().task_index.get(name)


def _code(value: Any) -> list[str]:
    """A function by its name and its whole module, since it may call others there."""
    source = inspect.getsourcefile(value)
    content = Path(source).read_bytes() if source else b""
    return [value.__qualname__, hashlib.sha256(content).hexdigest()]


def _cannot_be_loaded(name: str, error: Exception) -> TaskError:
    return TaskError(f"Task {name} cannot be loaded: {type(error).__name__}: {error}")
