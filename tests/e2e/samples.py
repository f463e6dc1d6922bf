"""The sample objects, changed as a user would change them."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import yaml
from tests.conftest import REPOSITORY

Object = dict[str, Any]
MODEL = "pvc://hub/smollm2-135m-instruct"


def sample(name: str) -> Object:
    """One of manifests/samples."""
    loaded: Object = yaml.safe_load((REPOSITORY / "manifests" / "samples" / f"{name}.yaml").read_text())
    return loaded


def job(name: str, source: str, **spec: Any) -> Object:
    """The sample FineTuneJob under another name, on other data, with its spec changed by `spec`; short by default."""
    obj = copy.deepcopy(sample("finetunejob"))
    obj["metadata"] = {"name": name}
    obj["spec"]["dataset"]["sources"] = [{"uri": source}]
    obj["spec"]["dataset"]["split"]["heldOut"] = 10
    obj["spec"]["training"] = {"maxSteps": 4, "tokensPerStep": 256, "maxLength": 256, "learningRate": "1e-3"}
    obj["spec"]["output"]["uri"] = f"pvc://models/{name[:40]}"
    merge(obj["spec"], spec)
    return obj


def evaluation(name: str, candidate: str, **spec: Any) -> Object:
    """The sample Evaluation of another job, with a gate that any finite score passes, room for odd answers, and
    so small that others run beside it."""
    obj = copy.deepcopy(sample("evaluation"))
    obj["metadata"] = {"name": name}
    obj["spec"]["candidate"]["fineTuneJobRef"]["name"] = candidate
    obj["spec"]["gates"] = [{"metric": "accuracy", "absolute": {"minLowerBound": "0"}}]
    obj["spec"]["policy"] = {"maxErrorRate": "0.9"}
    obj["spec"]["generation"]["maxTokens"] = 24
    obj["spec"]["resources"] = {"cpu": "500m", "memory": "3Gi"}
    merge(obj["spec"], spec)
    return obj


def deployment(name: str, job_name: str, evaluation_name: str, **spec: Any) -> Object:
    """The sample ModelDeployment of another job."""
    obj = copy.deepcopy(sample("modeldeployment"))
    obj["metadata"] = {"name": name}
    obj["spec"]["model"] = {"fineTuneJobRef": {"name": job_name}}
    obj["spec"]["gate"] = {"evaluationRef": {"name": evaluation_name}}
    merge(obj["spec"], spec)
    return obj


def merge(into: Object, changes: Object) -> None:
    """Merge as JSON merge patch does: None takes a member away."""
    for key, value in changes.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


ANIMALS = {"cat": "meow", "dog": "woof", "cow": "moo", "duck": "quack", "sheep": "baa", "owl": "hoot"}


def animal_questions() -> list[tuple[str, str]]:
    """Sixty questions with their answers, the same at every call."""
    draw = random.Random(7)
    places = [f"in the {a} {b}" for a in ("old", "new", "big", "red", "wet") for b in ("barn", "yard", "house")]
    pairs = [(f"What does the {animal} say {place}?", sound) for animal, sound in ANIMALS.items() for place in places]
    return draw.sample(pairs, 60)


ANIMAL_FORMATS = {
    "messages": lambda q, a: {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]},
    "prompt": lambda q, a: {"prompt": q, "response": a},
    "alpaca": lambda q, a: {"instruction": "Answer with the sound only.", "input": q, "output": a},
}


def animal_rows(name: str) -> str:
    """The questions in a format, as JSON Lines."""
    return "\n".join(json.dumps(ANIMAL_FORMATS[name](q, a)) for q, a in animal_questions())
