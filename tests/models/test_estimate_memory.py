"""Memory and time by hand, and the order in which ways to run a step are preferred."""

from __future__ import annotations

from dataclasses import replace

import pytest
from transformers import DeepseekV3Config, LlamaConfig, MistralConfig

from anneal.api.estimate import RowShape
from anneal.estimate.memory import GIB, USABLE, Adapter, PassPlan, Work, choose, memory, smallest, trainable_parameters
from anneal.estimate.shape import shape_of
from anneal.estimate.time import active_parameters, flops_per_token, tokens_per_second

MISTRAL_SMALL = shape_of(
    MistralConfig(
        vocab_size=131072,
        hidden_size=5120,
        intermediate_size=32768,
        num_hidden_layers=40,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
    ).to_dict()
)
WORK = Work(MISTRAL_SMALL, Adapter(16), weight_bytes=2, value_bytes=2, labelled=0.4, device="Accelerator")
ROWS = RowShape(tokens=1_000_000, answer_tokens=400_000, longest=2048, squares=500_000_000)


def test_trainable_parameters_are_rank_times_both_sides() -> None:
    q = 16 * (5120 + 4096)
    assert trainable_parameters(MISTRAL_SMALL, Adapter(16, ("q_proj",))) == 40 * q
    assert trainable_parameters(MISTRAL_SMALL, Adapter(8, ("self_attn.q_proj",))) == 20 * q
    assert trainable_parameters(MISTRAL_SMALL, Adapter(16)) == 92_405_760


def test_weights_of_mistral_small_are_47_gb_and_the_adapter_1_5() -> None:
    need = memory(WORK, PassPlan(4096, 0))
    assert need.weights == pytest.approx(47.1e9, rel=0.01)
    assert need.trainable == pytest.approx(1.5e9, rel=0.02)


@pytest.mark.parametrize(("gigabytes", "recompute_every"), [(141, 0), (80, 2), (60, 1)])
def test_more_memory_buys_less_recomputing(gigabytes: int, recompute_every: int) -> None:
    plan = choose(WORK, gigabytes * 10**9, longest=2048, most=16_384)
    assert plan is not None
    assert plan.recompute_every == recompute_every
    assert plan.tokens >= 2048


def test_what_is_chosen_fills_the_memory_and_no_more() -> None:
    available = 80 * GIB
    plan = choose(WORK, available, longest=2048, most=1_000_000)
    assert plan is not None
    assert memory(WORK, plan).total <= available * USABLE
    assert memory(WORK, replace(plan, tokens=plan.tokens + 2)).total > available * USABLE


def test_a_pass_is_not_larger_than_a_step_unless_one_row_is() -> None:
    assert choose(WORK, 1000 * GIB, longest=512, most=1024) == PassPlan(1024, 0)
    assert choose(WORK, 1000 * GIB, longest=2048, most=1024) == PassPlan(2048, 0)


def test_what_cannot_fit_has_no_plan_and_needs_at_least_the_smallest() -> None:
    least = memory(WORK, smallest(2048)).total
    assert choose(WORK, int(least / USABLE) - GIB, 2048, 8192) is None
    assert choose(WORK, int(least / USABLE) + GIB, 2048, 8192) == PassPlan(pytest.approx(2048, rel=0.6), 1)


def test_recomputing_keeps_less_the_more_layers_it_covers() -> None:
    totals = [memory(WORK, PassPlan(8192, every)).activations for every in (0, 4, 2, 1)]
    assert totals == sorted(totals, reverse=True)


def test_a_dense_model_costs_four_operations_per_parameter_and_token() -> None:
    alone = RowShape(tokens=1000, answer_tokens=0, longest=1, squares=1000)
    shape = shape_of(
        LlamaConfig(vocab_size=128, hidden_size=1024, num_hidden_layers=4, num_attention_heads=8).to_dict()
    )
    n, work = active_parameters(shape), replace(WORK, shape=shape)
    assert n == shape.parameters - 2 * 128 * 1024
    assert flops_per_token(work, alone, recomputed=0) == pytest.approx(4 * n, rel=0.001)
    assert flops_per_token(work, alone, recomputed=1) == pytest.approx(6 * n, rel=0.001)


def test_a_weight_that_learns_costs_two_more() -> None:
    each = [flops_per_token(replace(WORK, adapter=a), ROWS, recomputed=0) for a in (Adapter(16), None)]
    head = 2 * 131_072 * 5120 * 0.4
    assert each[1] - each[0] == pytest.approx(2 * active_parameters(MISTRAL_SMALL) + head)


def test_rows_that_share_a_beginning_leave_room_for_fewer_tokens() -> None:
    alone, shared = (choose(replace(WORK, keys_per_token=k), 141 * 10**9, 2048, 16_384) for k in (1.0, 20.0))
    assert alone is not None
    assert shared is not None
    assert shared.tokens < alone.tokens


def test_a_token_passes_few_of_the_experts() -> None:
    assert active_parameters(shape_of(DeepseekV3Config().to_dict())) == pytest.approx(37e9, rel=0.05)


def test_mistral_small_on_one_h100_trains_about_as_the_formula_of_four_n_says() -> None:
    assert tokens_per_second(WORK, ROWS, 0, 989e12) == pytest.approx(4200, rel=0.05)
