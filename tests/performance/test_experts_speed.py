"""How fast mixtures of experts train beside transformers and peft as they are, on the same model, tokens and thread.

CPU seconds of forward and backward, turns interleaved, medians; loss and gradients of both ways are compared first. The
shapes are those of the models in small: layers of Llama 4 Scout at a twentieth of their width with all 16 experts; a
layer of DeepSeek V3 at an eighth of its width with 32 experts. What peft adds to a pass does not depend on its tokens,
so its share falls with the tokens of an expert: measured at 64 and 128, which passes of 2,048 and 4,096 tokens give
each of V3's 256.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.performance.figures import record
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM, Llama4ForCausalLM, Llama4TextConfig

from anneal_trainer.fit import moe

pytestmark = pytest.mark.performance

ROUNDS = 5
SEED = 0
STACKS = ["experts.gate_up_proj", "experts.down_proj"]
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scout() -> Any:
    """Two layers of Scout's proportions: experts of 1.6 times the width, one of 16 a token, a shared one beside it."""
    return Llama4ForCausalLM(
        Llama4TextConfig(
            vocab_size=512,
            hidden_size=256,
            intermediate_size=416,
            intermediate_size_mlp=832,
            num_hidden_layers=2,
            num_attention_heads=8,
            num_key_value_heads=2,
            head_dim=32,
            num_local_experts=16,
            num_experts_per_tok=1,
            interleave_moe_layer_step=1,
            max_position_embeddings=2048,
        )
    )


def deepseek() -> Any:
    """One layer of V3's proportions: narrow experts, eight a token, a shared one beside them."""
    return DeepseekV3ForCausalLM(
        DeepseekV3Config(
            vocab_size=512,
            hidden_size=896,
            moe_intermediate_size=256,
            intermediate_size=896,
            num_hidden_layers=1,
            first_k_dense_replace=0,
            num_attention_heads=4,
            num_key_value_heads=4,
            n_routed_experts=32,
            num_experts_per_tok=8,
            n_group=8,
            topk_group=4,
            q_lora_rank=96,
            kv_lora_rank=32,
            qk_nope_head_dim=32,
            qk_rope_head_dim=16,
            v_head_dim=32,
            max_position_embeddings=2048,
        )
    )


def adapted(make: Callable[[], Any], rank: int, **where: Any) -> Any:
    torch.manual_seed(SEED)
    base = make().requires_grad_(False)
    with torch.no_grad():
        for parameter in (p for p in base.parameters() if p.dim() == 3):
            parameter.normal_(std=0.05)
    tuned = get_peft_model(base, LoraConfig(r=rank, lora_alpha=2 * rank, **where)).train()
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.02)
    return tuned


def _pass(run: Callable[[], torch.Tensor], model: Any) -> tuple[float, torch.Tensor, torch.Tensor]:
    """(CPU seconds, result, gradients) of one pass forward and backward."""
    model.zero_grad()
    began = time.process_time()
    loss = run()
    loss.backward()
    seconds = time.process_time() - began
    return seconds, loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def measure(name: str, least: float, tokens: int, ways: dict[str, tuple[Any, Callable[[Any], torch.Tensor]]]) -> None:
    """Runs two ways, the quick one first, in turns; records the ratio of their medians under `name`."""
    runs = {way: (model, lambda m=model, f=run: f(m)) for way, (model, run) in ways.items()}
    results = {way: _pass(run, model) for way, (model, run) in runs.items()}
    (_, loss, gradients), (_, other_loss, other_gradients) = results.values()
    torch.testing.assert_close(loss, other_loss, rtol=1e-4, atol=1e-5)
    off = float((gradients - other_gradients).norm() / other_gradients.norm())
    assert off < 1e-4, off
    seconds: dict[str, list[float]] = {way: [] for way in runs}
    for _ in range(ROUNDS):
        for way, (model, run) in runs.items():
            seconds[way].append(_pass(run, model)[0])
    quick, slow = (statistics.median(s) for s in seconds.values())
    ratio = round(slow / quick, 2)
    result = {
        "tokens": tokens,
        "cpuSeconds": {way: [round(s, 3) for s in sorted(measured)] for way, measured in seconds.items()},
        "ratio": ratio,
        "gradientsDiffer": float(f"{off:.1e}"),
        "limit": least,
        "seed": SEED,
        "versions": {package: version(package) for package in ("torch", "transformers", "peft")},
    }
    print(f"\n{name}: {result}")
    record(name, result)
    assert ratio >= least, result


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("llama4.vs_stock", {"target_modules": ATTENTION}),
        ("llama4_experts.vs_stock", {"target_modules": ATTENTION, "target_parameters": STACKS}),
    ],
    ids=["attention adapted", "experts adapted"],
)
def test_llama4_is_faster_than_transformers_runs_it(name: str, where: dict[str, Any]) -> None:
    tokens = torch.randint(0, 512, (1, 1024), generator=torch.Generator().manual_seed(SEED))

    def step(model: Any) -> torch.Tensor:
        loss: torch.Tensor = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        return loss

    ours = adapted(scout, 16, **where)
    assert moe.speed_up(ours, torch.float32) == []
    measure(name, 4, tokens.numel(), {"ours": (ours, step), "stock": (adapted(scout, 16, **where), step)})


@pytest.mark.parametrize(
    ("name", "tokens", "least"),
    [("expert_lora.vs_peft", 256, 1.7), ("expert_lora_long.vs_peft", 512, 1.4)],
    ids=["64 tokens an expert", "128 tokens an expert"],
)
def test_adapters_on_experts_are_faster_than_peft_runs_them(name: str, tokens: int, least: float) -> None:
    """The layer of experts alone, shared expert and router included."""
    generator = torch.Generator().manual_seed(SEED)
    hidden, weights = (torch.randn(1, tokens, 896, generator=generator) for _ in range(2))

    def layer(model: Any) -> torch.Tensor:
        inputs = hidden.clone().requires_grad_()
        found: torch.Tensor = (model.base_model.model.model.layers[0].mlp(inputs) * weights).sum()
        return found

    ours = adapted(deepseek, 16, target_modules=[], target_parameters=STACKS)
    assert moe.speed_up(ours, torch.float32) == []
    stock = adapted(deepseek, 16, target_modules=[], target_parameters=STACKS)
    measure(name, least, tokens, {"ours": (ours, layer), "stock": (stock, layer)})
