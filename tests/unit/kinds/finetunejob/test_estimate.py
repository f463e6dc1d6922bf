"""What status says of memory, time and cost before a training pod is asked for."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from tests.support.builders import SIZES, fine_tune_job
from tests.unit.kinds.finetunejob.cases import PREPARED, RESULTS, STARTED, at, message, succeeding
from tests.unit.kinds.scenes import FACTS, NOW

from anneal.api.estimate import Estimate, Sizes
from anneal.api.finetunejob import FineTuneJobSpec
from anneal.kinds.contract import Planning
from anneal.kinds.finetunejob.estimate import estimated
from anneal.kinds.finetunejob.plan import plan

H100 = "NVIDIA-H100-80GB-HBM3"
PLANNING = Planning(prices={H100: Decimal("2.50"), "nvidia.com/gpu": Decimal(1)})


def estimate(**spec: Any) -> Estimate:
    """The estimate of the builders' job and model."""
    wanted = FineTuneJobSpec.model_validate(fine_tune_job(**spec)["spec"])
    return estimated(wanted, Sizes.model_validate(SIZES), PLANNING)


def on(accelerator: dict[str, Any], **resources: Any) -> Estimate:
    return estimate(resources={"accelerator": accelerator, **resources})


def test_it_is_in_status_together_with_what_it_is_made_from() -> None:
    said = message("prepare", {**RESULTS["prepare"], "sizes": SIZES})
    status = plan(succeeding("prepare", STARTED, said), NOW).status
    assert status["estimate"]["parameters"] == 134_515_008
    assert status["estimate"]["fit"] == "Fits"
    assert status["dataset"] == PREPARED["dataset"]


def test_without_sizes_there_is_none_and_training_goes_on() -> None:
    assert "estimate" not in plan(succeeding("prepare", STARTED), NOW).status
    assert [o["kind"] for o in plan(at(PREPARED, facts=FACTS), NOW).apply][-1] == "Job"


def test_on_cpu_memory_is_that_of_the_pod_and_time_is_not_guessed() -> None:
    found = estimate()
    assert found.fit == "Fits"
    assert found.memory.weights_bytes == 4 * 134_515_008
    assert found.memory.available_bytes == 2 * 1024**3
    assert (found.recompute, found.seconds, found.cost) == ("None", None, None)
    assert found.message.startswith(
        "134.5 M frozen parameters of 4 bytes take 0.501 GiB, 4.884 M trained ones 0.127 GiB"
    )


def test_the_parts_make_the_total() -> None:
    memory = estimate().memory
    parts = memory.weights_bytes + memory.trainable_bytes + memory.activations_bytes + memory.loss_bytes
    assert memory.total_bytes == parts + memory.overhead_bytes


def test_a_known_accelerator_has_time_and_cost() -> None:
    found = on({"products": [H100]})
    assert found.fit == "Fits"
    assert found.memory.weights_bytes == 2 * 134_515_008
    assert found.tokens_per_second is not None
    assert found.seconds == round(120_000 / found.tokens_per_second)
    assert found.cost == "0.00 USD"
    assert f"of the 79.6 GiB of {H100}; 120 k tokens at" in found.message


def test_four_accelerators_take_a_quarter_of_the_time_for_the_same_money() -> None:
    long = {"training": {"epochs": 1000, "tokensPerStep": 8192}}
    one = estimate(resources={"accelerator": {"products": [H100]}}, **long)
    four = estimate(resources={"accelerator": {"products": [H100], "perNode": 4}}, **long)
    assert one.seconds is not None
    assert four.seconds == pytest.approx(one.seconds / 4, abs=1)
    assert four.cost == one.cost
    assert (one.pass_tokens, four.pass_tokens) == (8192, 2048)


def test_processes_of_a_pod_share_its_memory() -> None:
    found = estimate(resources={"memory": "2Gi", "processesPerNode": 2})
    assert found.fit == "DoesNotFit"
    assert found.memory.available_bytes == 1024**3
    assert "spec.resources.memory is 2 GiB for 2 processes; ask for 3Gi in a new FineTuneJob" in found.message
    enough = estimate(resources={"memory": "3Gi", "processesPerNode": 2})
    assert (enough.fit, enough.strategy) == ("Fits", "FSDP")


def test_an_accelerator_of_which_nothing_is_known_is_neither_refused_nor_promised() -> None:
    found = on({})
    assert (found.fit, found.memory.available_bytes, found.seconds) == ("Unknown", None, None)
    assert "name spec.resources.accelerator.products or minMemory to have it checked" in found.message


def test_less_memory_than_the_smallest_pass_needs_is_refused_with_what_would_do() -> None:
    found = estimate(resources={"memory": "512Mi"})
    assert (found.fit, found.recompute, found.pass_tokens) == ("DoesNotFit", "All", 120)
    assert "spec.resources.memory is 0.5 GiB; ask for 2Gi in a new FineTuneJob" in found.message
    assert estimate(resources={"memory": "2Gi"}).fit == "Fits"


def test_an_accelerator_that_is_too_small_is_refused_with_the_smallest_that_is_not() -> None:
    found = on({"minMemory": "1G"})
    assert found.fit == "DoesNotFit"
    assert "nvidia.com/gpu has 0.931 GiB; the smallest that holds it is NVIDIA-A10" in found.message


def test_four_bits_take_less_than_a_third_and_train_the_same() -> None:
    spec = {"resources": {"accelerator": {"products": [H100]}}}
    plain, small = estimate(**spec), estimate(lora=None, qlora={"rank": 16, "alpha": 32}, **spec)
    linears = sum(i * o * n for _, i, o, n in SIZES["model"]["linears"])
    assert small.memory.weights_bytes == pytest.approx(2 * (134_515_008 - linears) + 0.516 * linears, rel=1e-3)
    assert small.trainable_parameters == plain.trainable_parameters
    assert small.tokens_per_second == plain.tokens_per_second


def test_every_weight_that_learns_has_sixteen_bytes_on_an_accelerator() -> None:
    found = estimate(lora=None, full={}, resources={"accelerator": {"products": [H100]}})
    assert found.trainable_parameters == found.parameters == 134_515_008
    assert (found.memory.weights_bytes, found.memory.trainable_bytes) == (0, 16 * 134_515_008)
    assert estimate(lora=None, full={}).fit == "DoesNotFit"


def test_moments_in_8_bits_take_a_quarter_and_are_advised_where_they_would_do() -> None:
    """Of 135 M parameters 28 M are the embedding, whose moments stay as they are: 1.6 GB instead of 2.2."""
    card = {"resources": {"accelerator": {"minMemory": "5G"}}}
    long = estimate(lora=None, full={}, **card)
    short = estimate(lora=None, full={"optimizer": "AdamW8bit"}, **card)
    embedding, rest = 28_311_552, 134_515_008 - 28_311_552
    assert short.memory.trainable_bytes == pytest.approx(16 * embedding + (8 + 2 + 2 / 64) * rest, rel=1e-6)
    assert (long.fit, short.fit) == ("DoesNotFit", "Fits")
    assert "set spec.full.optimizer to AdamW8bit, lower spec.training.maxLength or take a smaller" in long.message
    assert "AdamW8bit" not in estimate(resources={"memory": "512Mi"}).message


def test_steps_say_how_many_tokens_there_are() -> None:
    found = estimate(training={"epochs": None, "maxSteps": 50, "tokensPerStep": 1024})
    assert "51.2 k tokens are trained on" in found.message


def test_usage_is_priced_as_the_estimate_was() -> None:
    spec = {"resources": {"accelerator": {"products": [H100]}}}
    priced = at(PREPARED, facts=FACTS).facts
    seen = succeeding("fit", PREPARED, spec=spec, facts=type(priced)(**{**vars(priced), "planning": PLANNING}))
    assert plan(seen, NOW).status["usage"] == {"preemptions": 2, "acceleratorSeconds": 120, "cost": "0.08 USD"}


def test_a_model_that_does_not_fit_one_accelerator_is_dealt_out_over_those_there_are() -> None:
    """135 M parameters that all learn need 2.2 GB and some; a card of 6 GB has no room for the head's gradients too."""
    spec = {"lora": None, "full": {}}
    tight = {"minMemory": "5G", "perNode": 4}
    one = estimate(resources={"accelerator": {"minMemory": "5G"}, "memory": "16Gi"}, **spec)
    four = estimate(resources={"accelerator": tight, "memory": "16Gi"}, **spec)
    assert (one.fit, one.strategy) == ("DoesNotFit", None)
    assert "share the weights over" in one.message
    assert (four.fit, four.strategy) == ("Fits", "FSDP")
    assert four.memory.trainable_bytes == 16 * 134_515_008 // 4
    assert four.memory.gathered_bytes is not None
    assert "in each of 4 processes, of which 4 share a copy of the weights (FSDP, 1 copy)" in four.message


def test_pods_whose_own_memory_cannot_load_the_base_are_refused() -> None:
    spread = {"accelerator": {"products": [H100], "perNode": 2}, "memory": "1Gi"}
    found = estimate(resources=spread, planner={"strategy": "FSDP"})
    assert (found.fit, found.strategy) == ("DoesNotFit", "FSDP")
    assert "each pod loads the base into its own memory before it is dealt out, 1.75 GiB" in found.message
    assert "spec.resources.memory is 1 GiB: ask for 2Gi" in found.message


@pytest.mark.parametrize(("asked", "strategy"), [("Auto", "DDP"), ("HSDP", "HSDP"), ("FSDP", "FSDP")])
def test_the_strategy_that_is_asked_for_is_taken(asked: str, strategy: str) -> None:
    resources = {"accelerator": {"products": [H100], "perNode": 2}, "nodes": 2, "memory": "16Gi"}
    workspace = {"accessMode": "ReadWriteMany"}
    found = estimate(resources=resources, planner={"strategy": asked}, workspace=workspace)
    assert (found.fit, found.strategy) == ("Fits", strategy)


def test_where_memory_is_not_known_training_chooses() -> None:
    assert on({"perNode": 2}).strategy is None
    assert estimate(resources={"accelerator": {"perNode": 2}}, planner={"strategy": "FSDP"}).strategy == "FSDP"


def test_the_pods_are_told_what_was_planned() -> None:
    spec = {"resources": {"accelerator": {"products": [H100], "perNode": 2}, "memory": "16Gi"}}
    said = message("prepare", {**RESULTS["prepare"], "sizes": SIZES})
    status = plan(succeeding("prepare", STARTED, said, spec=spec), NOW).status
    asked = plan(at(status, spec=spec, facts=FACTS), NOW).apply
    document = next(o for o in asked if o["kind"] == "ConfigMap")["data"]["run.json"]
    told = json.loads(document)
    assert told["ranks"]["strategy"] == status["estimate"]["strategy"] == "DDP"
    assert told["teraflops"][H100] == 989
