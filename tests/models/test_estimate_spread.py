"""Which way of spreading a training is taken: the least sharded that fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.models.test_estimate_memory import WORK

from anneal.api.estimate import Strategy
from anneal.api.methods import Full, Lora, Method, QLora
from anneal.estimate.memory import GIB, PassPlan, layer_parameters, memory
from anneal.estimate.methods import strategies
from anneal.estimate.spread import Ranks, fewest_ranks, spread

EVERY = strategies(Method(lora=Lora()))
ALL_LEARN = replace(WORK, adapter=None, weight_bytes=4)


@pytest.mark.parametrize(
    ("gib", "ranks", "strategy", "shards"),
    [
        (80, Ranks(1, 1), "DDP", 1),
        (80, Ranks(2, 8), "DDP", 1),
        (40, Ranks(2, 8), "HSDP", 8),
        (40, Ranks(1, 8), "FSDP", 8),
        (40, Ranks(8, 1), "FSDP", 8),
        (24, Ranks(2, 2), "FSDP", 4),
    ],
)
def test_an_adapter_on_mistral_small_is_spread_by_what_one_accelerator_has(
    gib: int, ranks: Ranks, strategy: Strategy, shards: int
) -> None:
    found = spread(WORK, gib * GIB, 2048, 8192, ranks, EVERY)
    assert (found.strategy, found.shards) == (strategy, shards)
    assert found.plan is not None


def test_all_weights_of_mistral_small_learn_on_eight_accelerators_of_80_gib_and_not_on_four() -> None:
    assert spread(ALL_LEARN, 80 * GIB, 2048, 8192, Ranks(1, 4), EVERY).plan is None
    assert spread(ALL_LEARN, 80 * GIB, 2048, 8192, Ranks(2, 8), EVERY).strategy == "HSDP"
    assert spread(ALL_LEARN, 60 * GIB, 2048, 8192, Ranks(2, 8), EVERY).strategy == "FSDP"
    assert fewest_ranks(ALL_LEARN, 80 * GIB, 2048) == 8


def test_what_is_dealt_out_has_a_part_of_the_memory_and_an_adapter_is_whole_everywhere() -> None:
    plan = PassPlan(2048, 1)
    whole, part = memory(WORK, plan), memory(replace(WORK, shards=8), plan)
    assert part.weights == pytest.approx(whole.weights / 8)
    assert part.trainable == whole.trainable
    assert (whole.gathered, part.gathered) == (0, 2 * round(2 * 131_072 * 5120 + 2 * layer_parameters(WORK.shape)))
    all_learn = memory(replace(ALL_LEARN, shards=8), plan)
    assert all_learn.trainable == pytest.approx(16 * WORK.shape.parameters / 8)


def test_what_has_its_scales_apart_is_never_dealt_out() -> None:
    assert strategies(Method(qlora=QLora())) == {"DDP"}
    assert strategies(Method(full=Full(optimizer="AdamW8bit"))) == {"DDP"}
    assert strategies(Method(full=Full())) == EVERY
    assert spread(WORK, GIB, 2048, 8192, Ranks(2, 8), frozenset(("DDP",))).plan is None


def test_a_way_that_so_few_ranks_do_not_have_is_an_error() -> None:
    with pytest.raises(ValueError, match="none of HSDP can spread a training over 2 ranks"):
        spread(WORK, GIB, 2048, 8192, Ranks(1, 2), frozenset(("HSDP",)))


def test_no_number_of_ranks_helps_where_a_single_layer_does_not_fit() -> None:
    assert fewest_ranks(WORK, 4 * GIB, 2048) is None
