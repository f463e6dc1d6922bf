"""What the API server cannot see in a spec, and the sentence that its author reads."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.builders import as_stored, fine_tune_job
from tests.unit.kinds.finetunejob.cases import STARTED
from tests.unit.kinds.scenes import NOW, seen

from anneal.kinds.finetunejob.plan import plan, references
from anneal.kinds.finetunejob.specification import problem

NOT_FETCHED = "secretRef is for data that is fetched (hf://, s3://, gs://, oci://, https://), not for pvc://"
PREFER = "and models prefer what their own wrote: choose a validator of another family"
UNPRICED = {"generator": {"openAI": {"model": "gpt-5"}}}


def augmentation(writer: str, checker: str, /, **more: Any) -> dict[str, Any]:
    price = {"inputPerMillion": "1", "outputPerMillion": "2"}
    asked = {
        "generator": {"openAI": {"model": writer}, "price": price},
        "validator": {"openAI": {"model": checker}, "price": price},
    }
    return {**asked, "rows": 5, "maxCost": "1", **more}


def semantic(**more: Any) -> dict[str, Any]:
    return {"embedder": {"model": "embed-3", "pricePerMillion": "0.02"}, "maxCost": "1", **more}


END = "; correct it and apply the object again"
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no text for a number": (
        {"training": {"learningRate": "abc"}},
        'spec.training.learningRate is \'abc\': must be a decimal number in quotes, such as "2e-4" or "0.05"',
    ),
    "a learning rate of 0": (
        {"training": {"learningRate": "0.0"}},
        "spec.training.learningRate is '0.0': it must be more than 0 and at most 1, such as \"2e-4\"",
    ),
    "a learning rate of 2": (
        {"training": {"learningRate": "2"}},
        "spec.training.learningRate is '2': it must be more than 0 and at most 1, such as \"2e-4\"",
    ),
    "no gradient": (
        {"training": {"maxGradNorm": "0"}},
        "spec.training.maxGradNorm is '0': it must be more than 0, such as \"1.0\"",
    ),
    "all decay": (
        {"training": {"weightDecay": "10"}},
        "spec.training.weightDecay is '10': it must be from 0 to 1, such as \"0.01\"",
    ),
    "a draw and a file": (
        {"dataset": {"split": {"heldOut": 10, "heldOutSource": {"uri": "pvc://hub/test.jsonl"}}}},
        "spec.dataset.split: heldOut and heldOutSource contradict each other: set only one of them",
    ),
    "keys for a file that is mounted": (
        {"dataset": {"leakCheck": {"against": [{"uri": "pvc://vault/a.jsonl", "secretRef": {"name": "s"}}]}}},
        f"spec.dataset.leakCheck.against[0]: {NOT_FETCHED}",
    ),
    "a question without its answer": (
        {"dataset": {"sources": [{"uri": "pvc://hub/a.csv", "columns": {"prompt": "q"}}]}},
        "spec.dataset.sources[0].columns: columns must name either messages, or both prompt and completion",
    ),
    "columns of a format": (
        {"dataset": {"sources": [{"uri": "pvc://hub/a.csv", "columns": {"messages": "m"}, "format": "Alpaca"}]}},
        "spec.dataset.sources[0]: columns and format contradict each other: set only one of them",
    ),
    "a threshold that all reach": (
        {"dataset": {"deduplication": {"threshold": "0.1"}}},
        "spec.dataset.deduplication.threshold is '0.1': it must be from 0.3 to 1, such as \"0.8\"",
    ),
    "a threshold that none reaches": (
        {"dataset": {"leakCheck": {"threshold": "80"}}},
        "spec.dataset.leakCheck.threshold is '80': it must be from 0.3 to 1, such as \"0.8\"",
    ),
    "a likeness that all have": (
        {"dataset": {"leakCheck": {"semantic": semantic(threshold="0.1")}}},
        "spec.dataset.leakCheck.semantic.threshold is '0.1': it must be from 0.3 to 1, such as \"0.8\"",
    ),
    "a verifier without a price": (
        {"dataset": {"leakCheck": {"semantic": semantic(verifier={"openAI": {"model": "gpt-5"}})}}},
        "spec.dataset.leakCheck.semantic: verifier needs its price: maxCost is counted by it",
    ),
    "one family": (
        {"dataset": {"augmentation": augmentation("gpt-5", "gpt-4.1")}},
        f"spec.dataset.augmentation: the generator gpt-5 and the validator gpt-4.1 are of one family, OpenAI, {PREFER}",
    ),
    "almost nothing but written rows": (
        {"dataset": {"augmentation": augmentation("gpt-5", "claude-sonnet-4", maxShare="0.95")}},
        "spec.dataset.augmentation.maxShare is '0.95': it must be more than 0 and at most 0.9, such as \"0.5\"",
    ),
    "money without prices": (
        {"dataset": {"augmentation": augmentation("gpt-5", "claude-sonnet-4", **UNPRICED)}},
        "spec.dataset.augmentation: generator and validator both need their price: maxCost is counted by it",
    ),
    "balance of nothing": (
        {"dataset": {"balance": {}}},
        "spec.dataset: balance needs category: the column with the category of a row",
    ),
    "fewer than the fewest": (
        {"dataset": {"expect": {"minExamples": 20, "maxExamples": 10}}},
        "spec.dataset.expect: maxExamples must not be less than minExamples (10 unless it is set)",
    ),
    "epochs and steps": (
        {"training": {"epochs": 1, "maxSteps": 10}},
        "spec.training: epochs and maxSteps contradict each other: set only one of them",
    ),
    "nothing but dropout": (
        {"lora": {"dropout": "1"}},
        'spec.lora: dropout must be at least 0 and less than 1, such as "0.05"',
    ),
    "no memory": ({"resources": {"memory": "0Gi"}}, "spec.resources.memory is '0Gi': it must be more than 0"),
    "no cpu": ({"resources": {"cpu": "0.0"}}, "spec.resources.cpu is '0.0': it must be more than 0"),
    "no workspace": ({"workspace": {"size": "0"}}, "spec.workspace.size is '0': it must be more than 0"),
    "a path out of its claim": (
        {"model": {"uri": "pvc://hub/../secrets"}},
        "spec.model.uri: 'pvc://hub/../secrets' has '..' in its path: a location cannot leave its claim",
    ),
    "a source out of its claim": (
        {"dataset": {"sources": [{"uri": "pvc://hub/a.jsonl"}, {"uri": "pvc://hub/../b"}]}},
        "spec.dataset.sources[1].uri: 'pvc://hub/../b' has '..' in its path: a location cannot leave its claim",
    ),
    "a fetched model without a place for it": (
        {"model": {"uri": "hf://acme/tiny"}},
        (
            "spec.model: cache says where a fetched model is kept: set it with hf://, s3://, gs:// and oci://, leave it"
            " out with pvc://"
        ),
    ),
    "a Secret for a claim": (
        {"model": {"secretRef": {"name": "hub"}}},
        "spec.model: secretRef and endpoint are for a model that is fetched (hf://, s3://, gs://, oci://), not for pvc://",
    ),
    "a cache out of its claim": (
        {"model": {"uri": "hf://acme/tiny", "cache": "pvc://bases/../x"}},
        "spec.model.cache: 'pvc://bases/../x' has '..' in its path: a location cannot leave its claim",
    ),
    "no method": ({"lora": None}, "spec: exactly one of lora, qlora, full must be set"),
    "no model": ({"model": None}, "spec.model: Field required"),
    "two things at once": (
        {"model": None, "output": None},
        "spec.model: Field required (and 1 more)",
    ),
    "a number out of range": (
        {"training": {"epochs": 0}},
        "spec.training.epochs is '0': Input should be greater than or equal to 1",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_in_one_sentence(name: str) -> None:
    spec, sentence = WRONG[name]
    assert problem(as_stored(fine_tune_job(**spec))) == sentence + END


@pytest.mark.parametrize("name", WRONG)
def test_nothing_is_begun_with_it(name: str) -> None:
    obj = as_stored(fine_tune_job(**WRONG[name][0]))
    decided = plan(seen(obj), NOW)
    assert (decided.status["phase"], decided.status["reason"]) == ("Pending", "InvalidSpec")
    assert decided.apply == decided.delete == ()
    assert "startTime" not in decided.status
    assert references(obj, {}) == frozenset()


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"training": {"learningRate": "1", "weightDecay": "1", "maxGradNorm": "1e-9"}},
        {"training": {"epochs": None, "maxSteps": 10}},
        {"resources": {"memory": "0.5Gi", "cpu": "1m"}, "workspace": {"size": "1"}},
        {"lora": {"dropout": "0.999"}},
        {"model": {"uri": "hf://acme/tiny:v1", "cache": "pvc://bases", "secretRef": {"name": "hub"}}},
    ],
    ids=["as in the README", "at the edges", "steps alone", "very little", "nearly all dropped", "from a Hub"],
)
def test_what_can_work_is_let_through(spec: dict[str, Any]) -> None:
    assert problem(as_stored(fine_tune_job(**spec))) is None


def test_a_corrected_spec_goes_on() -> None:
    wrong = as_stored(fine_tune_job(lora={"dropout": "1"}))
    status = plan(seen(wrong), NOW).status
    corrected = as_stored(fine_tune_job(), generation=2, **status)
    after = plan(seen(corrected), NOW).status
    assert (after["reason"], after["observedGeneration"]) == ("Starting", 2)
    assert {c["type"] for c in after["conditions"] if c["status"] == "True"} == {"Reconciling"}


def test_an_object_without_a_spec_gets_a_sentence_too() -> None:
    obj = {k: v for k, v in as_stored(fine_tune_job()).items() if k != "spec"}
    assert "spec: Field required" in plan(seen(obj), NOW).status["message"]


def test_a_status_that_cannot_be_read_is_said_and_not_built_upon() -> None:
    obj = as_stored(fine_tune_job(), **STARTED, dataset={"digest": "x"})
    decided = plan(seen(obj), NOW)
    assert decided.status["message"].startswith("status.dataset.digest is 'x': String should match pattern")
    assert decided.apply == ()
