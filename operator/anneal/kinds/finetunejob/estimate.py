"""What training will need, from what prepare found: status.estimate, with the arithmetic in a sentence.

It is written before the training pod is asked for, so that a model that cannot fit takes no accelerator.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from anneal.api.estimate import Estimate, MemoryEstimate, Sizes, Strategy
from anneal.api.finetunejob import FineTuneJobSpec
from anneal.api.quantities import bytes_of
from anneal.api.workloads import DEFAULT_MEMORY
from anneal.estimate.accelerators import MIB, smallest_that_holds, target
from anneal.estimate.memory import (
    CPU_PASS_TOKENS,
    CPU_PROGRAM,
    GIB,
    MOST_PASS_TOKENS,
    USABLE,
    Device,
    Memory,
    PassPlan,
    Work,
    choose,
    memory,
    recomputed_share,
    smallest,
    trainable_parameters,
)
from anneal.estimate.methods import loaded_bytes, strategies, work_of
from anneal.estimate.spread import Ranks, Spread, fewest_ranks, shards_of, spread
from anneal.estimate.time import tokens_per_second
from anneal.kinds.contract import Planning

_KEPT = {
    0: "nothing recomputed",
    4: "every fourth layer recomputed",
    2: "every second layer recomputed",
    1: "all layers recomputed",
}


@dataclass(frozen=True)
class Place:
    """What training runs on: `name` as people know it, `memory` in bytes where it is known, `flops` at most."""

    name: str
    memory: int | None
    flops: float | None


@dataclass(frozen=True)
class Pace:
    """How fast, how long, and what that is in accelerators and money; all None where the product is not known."""

    tokens: int
    tokens_per_second: int | None = None
    seconds: int | None = None
    accelerator_hours: str | None = None
    cost: str | None = None


def estimated(spec: FineTuneJobSpec, sizes: Sizes, planning: Planning) -> Estimate:
    """What training will need by this spec, for a model and rows of these sizes."""
    place, ranks = _place(spec, planning), _ranks(spec)
    found = _spread(spec, sizes, place)
    work = replace(_work(spec, sizes), shards=found.shards)
    plan = found.plan or smallest(sizes.rows.longest)
    need, pace = memory(work, plan), _pace(spec, sizes, work, plan, place, planning)
    too_little = _way_out(spec, sizes, need, place, planning) if found.plan is None else _loading(spec, work)
    fit = "DoesNotFit" if too_little else "Unknown" if place.memory is None else "Fits"
    said = f"{_arithmetic(work, plan, need)}{_shared(found, ranks)}"
    said = f"does not fit: {said}; {too_little}" if too_little else f"{said}{_room(place)}; {_time(pace)}"
    known = ranks.count > 1 and (place.memory is not None or spec.planner.strategy != "Auto")
    return Estimate(
        fit=fit,
        parameters=sizes.model.parameters,
        trainable_parameters=trainable_parameters(work.shape, work.adapter),
        memory=_memory_estimate(need, place.memory),
        strategy=found.strategy if known else None,
        pass_tokens=plan.tokens,
        recompute="None" if not plan.recompute_every else "All" if plan.recompute_every == 1 else "Some",
        tokens_per_second=pace.tokens_per_second,
        seconds=pace.seconds,
        accelerator_hours=pace.accelerator_hours,
        cost=pace.cost,
        message=said[:1024],
    )


def strategy(spec: FineTuneJobSpec, estimate: Estimate | None) -> Strategy | None:
    """How the processes of training share the model; None where they choose by the memory that they find."""
    if estimate is not None and estimate.strategy is not None:
        return estimate.strategy
    return None if spec.planner.strategy == "Auto" else spec.planner.strategy


def accelerators(spec: FineTuneJobSpec) -> int:
    """Accelerators of all training pods."""
    accelerator = spec.resources.accelerator
    return spec.resources.nodes * accelerator.per_node if accelerator is not None else 0


def cost(spec: FineTuneJobSpec, accelerator_seconds: float, planning: Planning) -> str | None:
    """What so much accelerator time costs, None without an accelerator or a price for it."""
    wanted = spec.resources.accelerator
    if wanted is None:
        return None
    name = target(wanted, planning.accelerators).name
    return planning.cost(name, accelerator_seconds) or planning.cost(wanted.asked_for, accelerator_seconds)


def _work(spec: FineTuneJobSpec, sizes: Sizes) -> Work:
    on_accelerator = spec.resources.accelerator is not None
    half = spec.training.precision == "BF16" or (spec.training.precision == "Auto" and on_accelerator)
    device: Device = "Accelerator" if on_accelerator else "CPU"
    return work_of(spec.method, sizes.model, sizes.rows, 2 if half else 4, device)


def _spread(spec: FineTuneJobSpec, sizes: Sizes, place: Place) -> Spread:
    """The least sharded way that fits, or the one that is asked for."""
    work, longest, ranks = _work(spec, sizes), sizes.rows.longest, _ranks(spec)
    most = min(CPU_PASS_TOKENS if work.device == "CPU" else MOST_PASS_TOKENS, _step_share(spec))
    asked = spec.planner.strategy
    if place.memory is None:
        taken: Strategy = "DDP" if asked == "Auto" else asked
        return Spread(taken, shards_of(taken, ranks), PassPlan(max(longest, most), 0))
    allowed = strategies(spec.method) if asked == "Auto" else frozenset((asked,))
    return spread(work, place.memory, longest, most, ranks, allowed)


def _step_share(spec: FineTuneJobSpec) -> int:
    """Tokens of a step for each process."""
    return -(-spec.training.tokens_per_step // _ranks(spec).count)


def _place(spec: FineTuneJobSpec, planning: Planning) -> Place:
    wanted = spec.resources.accelerator
    if wanted is None:
        return Place("spec.resources.memory", _pod_memory(spec) // spec.resources.processes, None)
    found = target(wanted, planning.accelerators)
    return Place(found.name, found.memory, found.flops)


def _ranks(spec: FineTuneJobSpec) -> Ranks:
    """Processes that work on every step together."""
    return Ranks(spec.resources.nodes, spec.resources.processes)


def _pod_memory(spec: FineTuneJobSpec) -> int:
    return bytes_of(spec.resources.memory or DEFAULT_MEMORY)


def _pace(spec: FineTuneJobSpec, sizes: Sizes, work: Work, plan: PassPlan, place: Place, planning: Planning) -> Pace:
    """All accelerators train, each on its part of every step."""
    training, tokens = spec.training, sizes.rows.tokens * (spec.training.epochs or 1)
    if training.max_steps is not None:
        tokens = training.max_steps * training.tokens_per_step
    if place.flops is None:
        return Pace(tokens)
    each = tokens_per_second(work, sizes.rows, recomputed_share(sizes.model, plan), place.flops)
    speed = each * _ranks(spec).count
    seconds = tokens / speed
    held = seconds * accelerators(spec)
    return Pace(tokens, round(speed), round(seconds), f"{held / 3600:.2f}", cost(spec, held, planning))


def _memory_estimate(need: Memory, available: int | None) -> MemoryEstimate:
    return MemoryEstimate(
        weights_bytes=need.weights,
        trainable_bytes=need.trainable,
        activations_bytes=need.activations,
        loss_bytes=need.loss,
        gathered_bytes=need.gathered or None,
        overhead_bytes=need.overhead,
        total_bytes=need.total,
        available_bytes=available,
    )


def _arithmetic(work: Work, plan: PassPlan, need: Memory) -> str:
    kept, trained = _KEPT[plan.recompute_every], trainable_parameters(work.shape, work.adapter)
    frozen = work.shape.parameters if work.adapter else work.shape.vision_parameters
    gathered = f", weights of others while they are used {_gib(need.gathered)}" if need.gathered else ""
    return (
        f"{_number(frozen)} frozen parameters of {work.weight_bytes:.3g} bytes take {_gib(need.weights)},"
        f" {_number(trained)} trained ones {_gib(need.trainable)}{gathered}, activations of"
        f" {plan.tokens:,} tokens at once {_gib(need.activations)} ({kept}), the loss {_gib(need.loss)}, the rest"
        f" {_gib(need.overhead)}: {_gib(need.total)}"
    )


def _room(place: Place) -> str:
    if place.memory is None:
        return (
            "; what an accelerator has is not known here, name spec.resources.accelerator.products or minMemory to have"
            " it checked"
        )
    return f" of the {_gib(place.memory)} of {place.name}"


def _time(pace: Pace) -> str:
    if pace.seconds is None:
        return f"{_number(pace.tokens)} tokens are trained on, at a pace that training will tell"
    said = f"{_number(pace.tokens)} tokens at {pace.tokens_per_second:,} tokens/s take {_duration(pace.seconds)}"
    price = f", {pace.cost}" if pace.cost is not None else ""
    return f"{said}: {pace.accelerator_hours} accelerator hours{price}"


def _shared(found: Spread, ranks: Ranks) -> str:
    """How the processes share the model, where there are several."""
    if ranks.count == 1:
        return ""
    if found.strategy == "DDP":
        return f" in each of {ranks.count} processes, all with the whole model (DDP)"
    copies = ranks.count // found.shards
    return (
        f" in each of {ranks.count} processes, of which {found.shards} share a copy of the weights"
        f" ({found.strategy}, {copies} {'copy' if copies == 1 else 'copies'})"
    )


def _loading(spec: FineTuneJobSpec, work: Work) -> str | None:
    """What a pod lacks to load the base before it is dealt out; None when nothing."""
    if work.shards == 1:
        return None
    needs, has = loaded_bytes(work) + spec.resources.processes * CPU_PROGRAM, _pod_memory(spec)
    if needs <= has * USABLE:
        return None
    return (
        f"each pod loads the base into its own memory before it is dealt out, {_gib(needs)} with its processes, and"
        f" spec.resources.memory is {_gib(has)}: ask for {_whole_gib(round(needs / USABLE))}Gi in a new FineTuneJob"
    )


def _way_out(spec: FineTuneJobSpec, sizes: Sizes, need: Memory, place: Place, planning: Planning) -> str:
    """What is there, and the smallest that would do."""
    wants = round(need.total / USABLE)
    has = _gib(place.memory or 0)
    shorter = f"{_short_moments(spec, sizes, place)}lower spec.training.maxLength or take a smaller base model"
    if spec.resources.accelerator is None:
        processes = spec.resources.processes
        shared = f" for {processes} processes" if processes > 1 else ""
        said = f"{place.name} is {_gib(_pod_memory(spec))}{shared}; ask for {_whole_gib(wants * processes)}Gi"
        return f"{said} in a new FineTuneJob, or {shorter}"
    if (more := _more(spec, sizes, place)) is not None:
        shorter = f"{more}, or {shorter}"
    enough = smallest_that_holds(wants, planning.accelerators)
    if enough is None:
        return f"{place.name} has {has}, and no accelerator that is known has {_gib(wants)}: {shorter}"
    return (
        f"{place.name} has {has}; the smallest that holds it is {enough.product}"
        f" ({_gib(enough.memory_mib * MIB)}): name it in spec.resources.accelerator.products of a new FineTuneJob, or"
        f" {shorter}"
    )


def _short_moments(spec: FineTuneJobSpec, sizes: Sizes, place: Place) -> str:
    """Advice to keep moments in 8 bits, where that would do; else empty."""
    work = _work(spec, sizes)
    if (
        spec.full is None
        or choose(replace(work, optimizer="AdamW8bit"), place.memory or 0, sizes.rows.longest, 1) is None
    ):
        return ""
    return "set spec.full.optimizer to AdamW8bit, "


def _more(spec: FineTuneJobSpec, sizes: Sizes, place: Place) -> str | None:
    """Advice to deal the weights out over more accelerators of the kind that was asked for, where that would do."""
    if strategies(spec.method) == {"DDP"} or spec.planner.strategy == "DDP":
        return None
    count = fewest_ranks(_work(spec, sizes), place.memory or 0, sizes.rows.longest)
    if count is None or count <= _ranks(spec).count:
        return None
    return f"share the weights over {count} of it (spec.resources.nodes x accelerator.perNode)"


def _gib(size: int) -> str:
    return f"{size / GIB:.3g} GiB" if size < 1000 * GIB else f"{size / GIB:,.0f} GiB"


def _whole_gib(size: int) -> int:
    return -(-size // GIB)


def _number(count: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return str(count)


def _duration(seconds: int) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds} s"
