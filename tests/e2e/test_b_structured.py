"""Rows with tools whose answers are JSON: read, trained, and judged by form, by value and by a guard.

The job has it all elsewhere: its base, a tiny model whose template knows tools, in a registry; its rows in S3; a copy
of its artifact in the registry; its curve in MLflow. The provider has an opinion of its own each time, so it is asked
twice, by batches.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.e2e import outside
from tests.e2e.conftest import Anneal, Object, is_over
from tests.e2e.samples import evaluation, job
from tests.e2e.stores import BUCKET, REGISTRY, TRACKER, Stores, stores
from tests.support.tiny_model import TOOLS_TEMPLATE, write_base, write_tokenizer

from anneal.api.artifacts import base_model_digest
from anneal.api.conditions import is_true

pytestmark = pytest.mark.e2e

NAME = "structured"
ROOMS = ("hall", "attic", "cellar", "garden", "kitchen")
LAMP = {
    "type": "function",
    "function": {"name": "lamp", "parameters": {"type": "object", "properties": {"state": {"type": "string"}}}},
}
SCHEMA = {
    "type": "object",
    "properties": {"state": {"enum": ["on", "off"]}},
    "required": ["state"],
    "additionalProperties": False,
}
GERMAN = "Bitte schalte das Licht im Wohnzimmer aus, bevor du heute Abend das Haus verlässt."
ROWS, HELD_OUT, BENCHMARK = 60, 12, 6
PRICE = {
    "inputPerMillion": "1000",
    "outputPerMillion": "10000",
    "batch": {"inputPerMillion": "500", "outputPerMillion": "5000"},
}


def row(number: int) -> Object:
    """One request; every fourth is done by a call before it is answered, every third is about harm."""
    state = "on" if number % 2 else "off"
    room = ROOMS[number % len(ROOMS)]
    is_called = number % 4 == 0
    how = "Use the lamp to" if is_called else "Please"
    messages = [{"role": "user", "content": f"{how} turn the light in the {room} {state} for room number {number}."}]
    if is_called:
        function = {"name": "lamp", "arguments": json.dumps({"state": state})}
        call = {"id": f"call{number:05}", "type": "function", "function": function}
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "name": "lamp", "content": "done"},
        ]
    messages.append({"role": "assistant", "content": json.dumps({"state": state})})
    topic = "harmful" if number % 3 == 0 else "plain"
    return {"messages": messages, "tools": [LAMP], "metadata": {"topic": topic}}


def rows() -> str:
    """All requests, and one in a language that nobody asked for."""
    foreign = {**row(ROWS), "messages": [{"role": "user", "content": GERMAN}, row(0)["messages"][-1]]}
    return "\n".join(json.dumps(r) for r in (*map(row, range(ROWS)), foreign))


def judgement() -> Object:
    """Form and value of the answers, and what a guard finds in them."""
    metrics = [
        {"name": "form", "jsonSchema": {"schema": json.dumps(SCHEMA)}},
        {"name": "state", "jsonField": {"path": "state"}},
        {"name": "safe", "guard": {}, "only": {"categories": ["harmful"]}},
        {"name": "helpful", "noRefusal": {"toldBy": "Guard"}, "only": {"categories": ["plain"]}},
    ]
    claims = [
        {"metric": "form", "superiority": {"over": "provider"}},
        {"metric": "state", "nonInferiority": {"to": "provider", "margin": "0.9"}},
    ]
    provider = {"name": "provider", "hosted": {**outside.hosted("anthropic", "chatty-1", PRICE), "requests": "Batch"}}
    return evaluation(
        NAME,
        NAME,
        baselines=[provider],
        generation={"maxTokens": 64, "epochs": 2},
        metrics=metrics,
        guard={"qwen3Guard": {}, **outside.hosted("openAI", outside.GUARD, PRICE)},
        gates=[
            {"metric": "form", "absolute": {"minLowerBound": "0.3"}},
            {"anyOf": claims},
            {"metric": "safe", "absolute": {"minLowerBound": "0"}},
            {"metric": "helpful", "absolute": {"minLowerBound": "0"}},
        ],
    )


@pytest.fixture(scope="module")
def services(anneal: Anneal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    if anneal.kubernetes.local is None:
        pytest.skip("pods of a cluster elsewhere cannot reach services of this machine")
    with stores(tmp_path_factory.mktemp("stores"), anneal.kubernetes.local.host_address) as running:
        yield running


@pytest.fixture(scope="module")
def base_digest(services: Stores, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the model that is in the registry."""
    base = tmp_path_factory.mktemp("tools")
    write_base(base, max_position_embeddings=1024)
    write_tokenizer(base, TOOLS_TEMPLATE)
    services.push(base, "bases/tools:v1", tmp_path_factory.mktemp("push"))
    return base_model_digest(base)


@pytest.fixture(scope="module")
def trained(anneal: Anneal, world: None, services: Stores, base_digest: str) -> Object:
    """The job's status when it has ended."""
    services.s3.client().create_dir("training")
    services.s3.put("training/rows.jsonl", rows().encode())
    services.s3.put("training/benchmark.jsonl", "\n".join(json.dumps(row(n)) for n in range(BENCHMARK)).encode())
    bucket = {"endpoint": services.s3.endpoint, "secretRef": {"name": BUCKET}}
    benchmark = {"uri": "s3://training/benchmark.jsonl", **bucket}
    registry = f"oci://{services.registry.host}"
    wanted = job(
        NAME,
        "s3://training/rows.jsonl",
        model={"uri": f"{registry}/bases/tools:v1", "cache": "pvc://models/bases", "secretRef": {"name": REGISTRY}},
        lora=None,
        full={},
        dataset={
            "category": "metadata.topic",
            "cleaning": {"languages": ["en"]},
            "split": {"heldOut": HELD_OUT},
            "leakCheck": {"threshold": "1", "against": [benchmark]},  # requests are alike on purpose
        },
        training={"maxSteps": 150, "tokensPerStep": 4096, "maxLength": 1024, "learningRate": "5e-3"},
        resources={"cpu": "200m", "memory": "1500Mi"},
        output={"mirror": {"uri": f"{registry}/models/structured", "secretRef": {"name": REGISTRY}}},
        tracking={"mlflow": {"secretRef": {"name": TRACKER}, "experiment": NAME}},
    )
    wanted["spec"]["dataset"]["sources"][0] |= bucket
    anneal.apply(*services.secrets(), wanted)
    ended = anneal.wait("FineTuneJob", NAME, is_over, 300)
    assert is_true(ended, "Complete"), ended["status"]["message"]
    status: Object = ended["status"]
    return status


@pytest.fixture(scope="module")
def judged(anneal: Anneal, trained: Object) -> Object:
    """The Evaluation's status when it has ended."""
    anneal.apply(judgement())
    status: Object = anneal.wait("Evaluation", NAME, is_over, 300)["status"]
    assert status.get("verdict"), status["message"]
    return status


def test_the_base_of_an_image_is_known_by_digest_and_kept(trained: Object, base_digest: str) -> None:
    assert trained["resolved"]["model"].startswith("sha256:")
    assert trained["model"]["digest"] == base_digest
    assert trained["artifact"]["baseUri"].startswith("pvc://models/bases/")


def test_the_copy_is_in_the_registry_under_the_digest_in_status(services: Stores, trained: Object) -> None:
    repository, _, digest = trained["artifact"]["mirrorUri"].partition("@")
    assert repository == f"oci://{services.registry.host}/models/structured"
    assert digest in services.registry.blobs()


def test_the_curve_is_in_mlflow_with_the_artifact_that_it_led_to(services: Stores, trained: Object) -> None:
    experiment = services.mlflow.ask(f"experiments/get-by-name?experiment_name={NAME}")["experiment"]["experiment_id"]
    (run,) = services.mlflow.ask("runs/search", {"experiment_ids": [experiment]})["runs"]
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert tags["anneal.dev/artifact"] == trained["artifact"]["digest"]
    assert trained["tracking"]["runUri"].endswith(run["info"]["run_id"])
    loss = services.mlflow.ask(f"metrics/get-history?run_id={run['info']['run_id']}&metric_key=loss")["metrics"]
    assert loss[-1]["step"] == trained["training"]["steps"]


def test_a_language_that_is_not_wanted_is_left_out(trained: Object) -> None:
    left_out = {count["reason"]: count["rows"] for count in trained["dataset"]["leftOut"]}
    assert left_out["Language"] == 1
    assert trained["dataset"]["counts"]["heldOut"] == HELD_OUT


def test_rows_of_a_benchmark_are_not_trained_on(trained: Object) -> None:
    (compared,) = trained["dataset"]["compared"]
    left_out = {count["reason"]: count["rows"] for count in trained["dataset"]["leftOut"]}
    assert compared["rows"] == BENCHMARK
    assert left_out["LeakAgainst"] == compared["leaks"] > 0


def test_answers_that_are_json_pass_where_prose_does_not(judged: Object) -> None:
    values = {(r["model"], r["metric"]): float(r["value"]) for r in judged["results"]}
    assert values["candidate", "form"] > 0.5
    assert values["provider", "form"] == 0
    form, either, *_ = judged["gates"]
    assert (form["outcome"], either["outcome"]) == ("Passed", "Passed")
    assert "form superiority over provider" in either["passed"]


def test_a_provider_is_asked_twice_by_batches_and_paid_by_their_tariff(judged: Object) -> None:
    (provider,) = [m for m in judged["models"] if m["name"] == "provider"]
    assert (provider["n"], provider["errors"]) == (2 * HELD_OUT, 0)
    assert float(provider["cost"]) == pytest.approx(2 * HELD_OUT * (10 * 500e-6 + 2 * 5000e-6))


def test_a_guard_classifies_the_rows_that_it_is_for(judged: Object) -> None:
    assert judged["guard"]["errors"] == 0
    assert judged["guard"]["n"] > 0
    outcomes = [gate["outcome"] for gate in judged["gates"][2:]]
    assert outcomes == ["Passed", "Passed"]
