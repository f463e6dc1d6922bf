"""How fast training is on one accelerator, beside the trainers that people use; `make bench-training-gpu`.

Models of the real shapes with random weights, made on the card, so that nothing is downloaded; rows of random tokens;
the loop that the trainer image runs. Wall time after some warm-up steps, turns that alternate, medians with their
ranges, real tokens only. `--size Tiny` runs the same program on models of two layers, to see that it works.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tests.performance import trainers
from tests.performance.figures import OUT, PACKAGES, SEED
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    Llama4TextConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    TrainerCallback,
)
from transformers.loss.loss_utils import ForCausalLMLoss

from anneal.api.methods import Full, Lora, Method
from anneal.api.training import Training
from anneal.estimate.accelerators import KNOWN
from anneal.estimate.memory import GIB, PIECE_LOGITS, PassPlan
from anneal.estimate.memory import memory as needed
from anneal_trainer.fit import loop, memory, moe
from anneal_trainer.fit.batches import StepPlan
from anneal_trainer.fit.loss import in_pieces
from anneal_trainer.fit.methods import Learner
from anneal_trainer.fit.methods.lora import adapt
from anneal_trainer.fit.pace import Meter
from anneal_trainer.fit.passes import quickest
from anneal_trainer.fit.ranks import Alone
from anneal_trainer.fit.sharding import Whole
from anneal_trainer.fit.state import TrainingState
from anneal_trainer.preemption import Preemption
from anneal_trainer.prepare.template import Rendered
from anneal_trainer.rows import TrainingRows, flatten

NO_CARD = "there is no CUDA card here: run this on one, or try the program with --device cpu --size Tiny"
LORA = Method(lora=Lora(rank=16, alpha=32))
EXPERTS = Method(lora=Lora(rank=16, alpha=32, target_parameters=["experts.gate_up_proj", "experts.down_proj"]))
FULL = Method(full=Full())


@dataclass(frozen=True)
class Bench:
    """How much is measured, where.

    Attributes:
        steps: that are timed, after `warm` ones that are not.
        rounds: turns of each way.
        line: tokens of a full row.
    """

    device: torch.device
    dtype: torch.dtype
    tiny: bool
    line: int
    warm: int
    steps: int
    rounds: int

    def config(self, kind: type[PretrainedConfig], small: dict[str, Any], **shape: Any) -> PretrainedConfig:
        """The real shape, or that of two layers."""
        common = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
        return kind(**(shape | common | heads | small if self.tiny else shape))

    def settle(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def forget(self) -> None:
        """Frees what the turn before held, and its peak."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        """The most bytes that tensors had on the card; 0 on a CPU, where nobody counts."""
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else 0


def shapes(bench: Bench) -> dict[str, PretrainedConfig]:
    """The models, by their names here. Mixtures of experts have fewer layers, so that one card holds them."""
    long = {"max_position_embeddings": 32_768}
    small_mla = {
        "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 16,
        "moe_intermediate_size": 32, "n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
        "num_key_value_heads": 4, "head_dim": 8,
    }  # fmt: skip
    return {
        "llama_8b": bench.config(
            LlamaConfig, {}, vocab_size=128_256, hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32,
            num_attention_heads=32, num_key_value_heads=8, **long,
        ),
        "mistral_24b": bench.config(
            MistralConfig, {}, vocab_size=131_072, hidden_size=5120, intermediate_size=32_768, num_hidden_layers=40,
            num_attention_heads=32, num_key_value_heads=8, head_dim=128, sliding_window=None, **long,
        ),
        "scout_12_layers": bench.config(
            Llama4TextConfig, {"intermediate_size_mlp": 128, "num_local_experts": 4}, num_hidden_layers=12, **long
        ),
        "deepseek_2_layers": bench.config(
            DeepseekV3Config, small_mla, num_hidden_layers=2, first_k_dense_replace=1, **long
        ),
    }  # fmt: skip


def made(config: PretrainedConfig, method: Method, bench: Bench) -> Any:
    """A model with random weights on the card, as the method trains it."""
    torch.manual_seed(SEED)
    config = copy.deepcopy(config)  # a way to run attention is noted in it
    config.use_cache = False
    full = method.full is not None
    with bench.device:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32 if full else bench.dtype)
        if method.lora is not None:
            model = adapt(model.requires_grad_(requires_grad=False), method.lora, SEED)
    return model.train()


def rows_of(bench: Bench, vocabulary: int, lengths: Sequence[int]) -> TrainingRows:
    """Rows of random tokens, of which all but the first are learned."""
    random = np.random.default_rng(SEED)
    each = ([int(t) for t in random.integers(1, vocabulary, length)] for length in lengths)
    return flatten([Rendered(row, [False] + [True] * (len(row) - 1)) for row in each])


def full_rows(bench: Bench, vocabulary: int, tokens_per_step: int) -> TrainingRows:
    return rows_of(bench, vocabulary, [bench.line] * ((bench.warm + bench.steps) * tokens_per_step // bench.line))


def log_normal_rows(bench: Bench, vocabulary: int, tokens_per_step: int) -> TrainingRows:
    """Lengths of conversations, mean about 214 tokens, for at least as many steps."""
    random = np.random.default_rng(SEED)
    count = (bench.warm + bench.steps + 2) * tokens_per_step // (214 if not bench.tiny else 60)
    most = bench.line
    return rows_of(bench, vocabulary, np.clip(random.lognormal(5.011, 0.8425, count), 12, most).astype(int).tolist())


@dataclass
class Pace(TrainerCallback):  # type: ignore[misc]
    """When steps ended: a callback of transformers' trainers, and of our loop."""

    bench: Bench
    ends: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.bench.settle()
        self.ends.append(time.perf_counter())

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        if "loss" in logs:
            self.losses.append(logs["loss"])

    def steps_per_second(self) -> float:
        timed = self.ends[self.bench.warm - 1 : self.bench.warm + self.bench.steps]
        return (len(timed) - 1) / (timed[-1] - timed[0])


@dataclass(frozen=True)
class Turn:
    """One way to train, once. `tokens` per second; `peak` bytes on the card; the loss of the first step."""

    tokens: float
    peak: int
    loss: float
    notes: tuple[str, ...] = ()


def ours(model: Any, rows: TrainingRows, tokens_per_step: int, plan: PassPlan, bench: Bench) -> Turn:
    """Our loop, in passes as `plan` says."""
    if plan.recompute_every:
        memory.recompute(model, plan)
    steps = StepPlan(rows.lengths, _training(tokens_per_step, bench))
    passes = quickest(model, rows, bench.device, plan.tokens, bench.dtype)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
    trainer = loop.Trainer(
        Learner(model), optimizer, passes, steps, _training(tokens_per_step, bench), Preemption(), Alone(), Whole(),
        Meter(bench.device),
    )  # fmt: skip
    pace, state, seen = Pace(bench), TrainingState(), []

    def after() -> None:
        pace.on_step_end()
        seen.append((state.tokens, state.recent[-1].mean))

    loop.train(trainer, state, after)
    tokens = (seen[bench.warm + bench.steps - 1][0] - seen[bench.warm - 1][0]) / bench.steps
    return Turn(tokens * pace.steps_per_second(), bench.peak(), seen[0][1], passes.notes)


def _training(tokens_per_step: int, bench: Bench) -> Training:
    return Training(
        max_steps=bench.warm + bench.steps,
        tokens_per_step=tokens_per_step,
        learning_rate=str(trainers.LEARNING_RATE),
        seed=SEED,
    )


def other(kind: Literal["stock", "trl"], model: Any, rows: TrainingRows, tokens_per_step: int, bench: Bench) -> Turn:
    """transformers' Trainer, or TRL's: whole rows of one length, so that packing has nothing to do."""
    pace = Pace(bench)
    on_cpu = bench.device.type == "cpu"
    changes = {
        "use_cpu": on_cpu,
        "bf16": not on_cpu,
        "max_steps": bench.warm + bench.steps,
        "per_device_train_batch_size": tokens_per_step // bench.line,
        "logging_nan_inf_filter": False,
    }
    with tempfile.TemporaryDirectory() as folder:
        trainers.trainer(kind, model, rows, folder, pace, changes, bench.line).train()
    return Turn(tokens_per_step * pace.steps_per_second(), bench.peak(), pace.losses[0])


def turns(ways: dict[str, Callable[[], Turn]], bench: Bench) -> dict[str, Any]:
    """Figures of each way, its turns alternating with those of the others."""
    found: dict[str, list[Turn]] = {name: [] for name in ways}
    for _ in range(bench.rounds):
        for name, way in ways.items():
            bench.forget()
            found[name].append(way())
            print(f"  {name}: {found[name][-1]}", flush=True)
    bench.forget()
    return {
        name: {
            "tokensPerSecond": round(statistics.median(t.tokens for t in each), 1),
            "range": [round(min(t.tokens for t in each), 1), round(max(t.tokens for t in each), 1)],
            "peakGiB": round(max(t.peak for t in each) / GIB, 2),
            "loss": round(each[0].loss, 4),
            **({"notes": list(each[0].notes)} if each[0].notes else {}),
        }
        for name, each in found.items()
    }


def llama_8b(bench: Bench) -> dict[str, Any]:
    """LoRA on an 8B, two full rows a step, beside the others; then rows of many lengths."""
    config, step = shapes(bench)["llama_8b"], 2 * bench.line
    rows = full_rows(bench, config.vocab_size, step)
    mixed = log_normal_rows(bench, config.vocab_size, step)
    plan = PassPlan(step, 0)
    return turns(
        {
            "ours": lambda: ours(made(config, LORA, bench), rows, step, plan, bench),
            "stock": lambda: other("stock", made(config, LORA, bench), rows, step, bench),
            "trl": lambda: other("trl", made(config, LORA, bench), rows, step, bench),
            "ours_many_lengths": lambda: ours(made(config, LORA, bench), mixed, step, plan, bench),
        },
        bench,
    )


def mistral_24b(bench: Bench) -> dict[str, Any]:
    """LoRA on a 24B in three ways to use memory, beside what they were said to need; those that fit."""
    config = shapes(bench)["mistral_24b"]
    plans = {"4096": PassPlan(bench.line, 0), "8192": PassPlan(2 * bench.line, 2), "16384": PassPlan(4 * bench.line, 1)}
    found: dict[str, Any] = {}
    for name, plan in plans.items():
        rows = full_rows(bench, config.vocab_size, plan.tokens)
        model = made(config, LORA, bench)
        work = memory.work(model, LORA, rows, bench.device, bench.dtype)
        predicted = needed(work, plan)
        if predicted.total > memory.usable_bytes(bench.device):
            found[name] = {"doesNotFit": round(predicted.total / GIB, 1)}
            del model
            bench.forget()
            continue
        bench.forget()
        turn = ours(model, rows, plan.tokens, plan, bench)
        del model
        found[name] = {
            "tokensPerSecond": round(turn.tokens, 1),
            "peakGiB": round(turn.peak / GIB, 2),
            "predictedGiB": round((predicted.total - predicted.overhead) / GIB, 2),
            "recomputeEvery": plan.recompute_every,
        }
        bench.forget()
    return found


def experts(name: str, method: Method) -> Callable[[Bench], dict[str, Any]]:
    """A mixture of experts with and without what makes its experts quick, in the same loop."""

    def measure(bench: Bench) -> dict[str, Any]:
        config, step = shapes(bench)[name], bench.line
        rows = full_rows(bench, config.vocab_size, step)

        def turn(quick: Callable[[Any], list[str]]) -> Turn:
            model = made(config, method, bench)
            notes = quick(model)
            return replace(ours(model, rows, step, PassPlan(step, 1), bench), notes=tuple(notes))

        return turns(
            {"ours": lambda: turn(lambda m: moe.speed_up(m, bench.dtype)), "stock": lambda: turn(lambda _: [])}, bench
        )

    return measure


def loss(bench: Bench) -> dict[str, Any]:
    """Loss and gradient of 8,192 labels at a head of 5,120 by 131,072 that does not learn: seconds, bytes above."""
    labels, hidden, vocabulary = (64, 32, 512) if bench.tiny else (8192, 5120, 131_072)
    head = torch.nn.Linear(hidden, vocabulary, bias=False, device=bench.device, dtype=bench.dtype)
    head.requires_grad_(requires_grad=False)
    states = torch.randn(labels, hidden, device=bench.device, dtype=bench.dtype, requires_grad=True)
    targets = torch.randint(0, vocabulary, (labels,), device=bench.device)
    ways = {
        "ours": lambda: in_pieces(head, states, targets, PIECE_LOGITS // vocabulary) / labels,
        "stock": lambda: ForCausalLMLoss(head(states)[None], None, vocabulary, shift_labels=targets[None]),
    }
    found: dict[str, Any] = {}
    for name, way in ways.items():
        seconds = []
        for _ in range(1 + bench.rounds):
            bench.forget()
            before = bench.peak()
            began = time.perf_counter()
            value = way()
            value.backward()
            bench.settle()
            seconds.append(time.perf_counter() - began)
            peak = bench.peak() - before
            states.grad = None
        found[name] = {"seconds": round(statistics.median(seconds[1:]), 5), "extraGiB": round(peak / GIB, 3)}
        found[name]["loss"] = round(value.item(), 4)
        del value
    return found


def full_8b(bench: Bench) -> dict[str, Any]:
    """Every weight of an 8B learns, where the card has the 16 bytes a parameter that it takes."""
    config, step = shapes(bench)["llama_8b"], bench.line
    with torch.device("meta"):
        parameters = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if 16 * parameters > memory.usable_bytes(bench.device):
        return {"doesNotFit": round(16 * parameters / GIB, 1)}
    rows = full_rows(bench, config.vocab_size, step)
    return turns({"ours": lambda: ours(made(config, FULL, bench), rows, step, PassPlan(step, 1), bench)}, bench)


MEASURED: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "llama_8b": llama_8b,
    "mistral_24b": mistral_24b,
    "scout_12_layers": experts("scout_12_layers", LORA),
    "deepseek_2_layers": experts("deepseek_2_layers", EXPERTS),
    "loss": loss,
    "full_8b": full_8b,
}


def bars(found: dict[str, Any]) -> dict[str, Any]:
    """What was asked for beside what was reached. A part that did not fit reaches nothing."""
    scout = found.get("scout_12_layers", {})
    reached = {
        "llama_8b": (12_500, found.get("llama_8b", {}).get("ours", {}).get("tokensPerSecond", 0)),
        "mistral_24b": (
            4_000,
            max((v.get("tokensPerSecond", 0) for v in found.get("mistral_24b", {}).values()), default=0),
        ),
        "scout.vs_stock": (
            4,
            round(scout["ours"]["tokensPerSecond"] / scout["stock"]["tokensPerSecond"], 2) if "ours" in scout else 0,
        ),
    }
    return {name: {"bar": bar, "reached": value, "holds": value >= bar} for name, (bar, value) in reached.items()}


def main(arguments: Sequence[str]) -> int:
    """Measures, prints, writes. The exit code: 0, or 2 without a card; figures below a bar are figures all the same."""
    parser = argparse.ArgumentParser(description="Training on one accelerator.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=("Real", "Tiny"), default="Real")
    parser.add_argument("--only", choices=tuple(MEASURED), nargs="*", default=tuple(MEASURED))
    parser.add_argument("--out", type=Path, default=OUT.with_name("training-gpu.json"))
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print(f"error: {NO_CARD}", file=sys.stderr)
        return 2
    tiny = options.size == "Tiny"
    bench = Bench(
        device=torch.device(options.device),
        dtype=torch.bfloat16 if options.device == "cuda" else torch.float32,
        tiny=tiny,
        line=64 if tiny else 4096,
        warm=1 if tiny else 5,
        steps=2 if tiny else 20,
        rounds=1 if tiny else 3,
    )
    card = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    peaks = {t.product: t.teraflops for t in KNOWN}
    found: dict[str, Any] = {}
    for name in options.only:
        try:
            found[name] = MEASURED[name](bench)
        except torch.OutOfMemoryError as error:
            found[name] = {"outOfMemory": str(error).splitlines()[0]}
        print(f"{name}: {json.dumps(found[name])}", flush=True)
        document = {
            "card": card, "peakTeraflops": peaks.get(card.replace(" ", "-")), "size": options.size, "seed": SEED,
            "versions": {p: version(p) for p in PACKAGES}, "measured": found, "bars": bars(found),
        }  # fmt: skip
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
