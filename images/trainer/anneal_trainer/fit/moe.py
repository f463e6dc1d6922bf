"""Mixtures of experts at the price of the experts that are chosen.

Two libraries do more than they must. transformers runs every expert of a Llama 4 on every token and multiplies most of
the results by zero. peft adds an adapter B A to the whole stack of experts before each pass, so that backward makes a
gradient of the size of all experts, which a frozen stack has no use for. Here tokens are sorted by the expert that they
chose, each expert runs on its own (grouped matrix products), and W x and B (A x) are summed instead of W and B A. The
adapter stays peft's: its factors, its names, its files.

Neither is believed. On a layer of the very model that is to be trained, outputs and gradients are compared with those
of the libraries; where they differ the libraries' way stays, and a sentence says so. What is replaced or relied on is
named in RELIED_ON, and a test fails when an upgrade changes any of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch.nn import functional

#: Functions of other libraries that are replaced, written anew or called here though nobody promises that they stay.
RELIED_ON = (
    "transformers.models.llama4.modeling_llama4:Llama4TextMoe.forward",
    "transformers.models.llama4.modeling_llama4:Llama4TextExperts.forward",
    "transformers.models.llama4.modeling_llama4:Llama4Router.forward",
    "transformers.integrations.moe:grouped_mm_experts_forward",
    "transformers.integrations.moe:_default_apply_gate",
    "transformers.integrations.moe:_grouped_mm",
    "peft.tuners.lora.layer:ParamWrapper.forward",
    "peft.tuners.lora.layer:ParamWrapper.get_delta_factors",
)
#: Grouped products take matrices whose rows are multiples of this long, so low ranks are filled up with zeros.
_ROW_BYTES = 16
_TRIAL_TOKENS = 64
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
_LOG = logging.getLogger(__name__)

#: A module and what its forward becomes.
Patch = tuple[torch.nn.Module, Callable[..., Any]]


@dataclass(frozen=True)
class Change:
    """One thing that is done otherwise.

    Attributes:
        patches: what it replaces in a block (a module with `experts`): nothing where it has nothing to do. Raises
            ValueError, in words, where it does not know how.
        without: what is so without it.
    """

    patches: Callable[[Any], list[Patch]]
    without: str


def speed_up(model: Any, autocast: torch.dtype) -> list[str]:
    """Makes the experts of `model` quick where that is seen to change nothing. Returns what stays slow, and why.

    `autocast`: arithmetic of the forward pass, as in `passes.py`.
    """
    notes = []
    blocks = [m for m in model.modules() if isinstance(getattr(m, "experts", None), torch.nn.Module)]
    for change in CHANGES:
        try:
            concerned = [(block, patches) for block in blocks if (patches := change.patches(block))]
            problem = _problem(*concerned[0], model, autocast) if concerned else ""
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            problem = (str(error).splitlines() or [type(error).__name__])[0]
        if problem:
            _LOG.warning("%s: %s", change.without, problem)
            notes.append(f"{change.without}: {problem}")
            continue
        for _, patches in concerned:
            _apply(patches)
    return notes


def _sparse(block: Any) -> list[Patch]:
    if type(block).__name__ != "Llama4TextMoe":
        return []
    experts, _ = _opened(block.experts)
    return [(block, _llama4_block), (experts, _llama4_experts)]


def _split(block: Any) -> list[Patch]:
    if not _is_wrapper(block.experts):
        return []
    experts, _ = _opened(block.experts)
    if _is_llama4(experts):
        # Experts that still run on every token do not get tokens sorted by expert.
        return [(block.experts, partial(_with_adapter, forward=_llama4_experts))] if "forward" in vars(experts) else []
    odd = [name for name in ("has_bias", "has_post_expert_norm", "_is_expert_parallel") if getattr(experts, name, True)]
    if odd or not experts.has_gate:
        raise ValueError(f"{type(experts).__name__} is not of the kind that is known ({', '.join(odd) or 'no gate'})")
    return [(block.experts, partial(_with_adapter, forward=_chosen_experts))]


CHANGES = (
    Change(_sparse, "every expert runs on every token"),
    Change(_split, "adapters are added to all experts in each pass"),
)


def _llama4_block(self: Any, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Llama4TextMoe.forward: the router's score scales what goes into an expert, so that of the others is zero."""
    tokens = hidden_states.reshape(-1, self.hidden_dim)
    scores, logits = self.router(tokens)
    chosen = torch.topk(logits, self.top_k, dim=1).indices
    order, ends = _by_expert(chosen, self.num_experts)
    places = order // self.top_k
    routed = self.experts(tokens[places] * scores.gather(1, chosen).flatten()[order][:, None], ends)
    shared = self.shared_expert(tokens)
    return shared.index_add(0, places, routed.to(shared.dtype)), logits


def _llama4_experts(self: Any, hidden_states: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Llama4TextExperts.forward on tokens sorted by expert; `self` may be wrapped by peft."""
    experts, project = _opened(self)
    gate, up = project("gate_up_proj", hidden_states, ends).chunk(2, dim=-1)
    return project("down_proj", up * experts.act_fn(gate), ends)


def _chosen_experts(
    self: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """What transformers.integrations.moe does with grouped matrix products, for experts wrapped by peft.

    The router's weight is multiplied in before the second product, where an expert is narrowest, instead of behind it.
    """
    experts, project = _opened(self)
    order, ends = _by_expert(top_k_index, experts.num_experts)
    each = top_k_index.shape[-1]
    inner = experts._apply_gate(project("gate_up_proj", hidden_states[order // each], ends))
    found = project("down_proj", inner * top_k_weights.flatten()[order][:, None], ends)
    return found[torch.argsort(order)].view(len(hidden_states), each, -1).sum(dim=1).to(hidden_states.dtype)


def _with_adapter(self: Any, *inputs: torch.Tensor, forward: Callable[..., torch.Tensor]) -> torch.Tensor:
    """Forward of the outermost wrapper; as peft has it while the adapter is switched off or part of the weights."""
    if self.disable_adapters or self.merged:
        return type(self).forward(self, *inputs)  # type: ignore[no-any-return]
    return forward(self, *inputs)


def _opened(layer: Any) -> tuple[Any, Callable[..., torch.Tensor]]:
    """(the experts, their projection by name) of experts that peft may have wrapped, once for each stack."""
    wrappers = {}
    while _is_wrapper(layer):
        wrappers[layer.parameter_name] = layer
        layer = layer.base_layer
    return layer, partial(_project, layer, wrappers)


def _project(
    experts: Any, wrappers: dict[str, Any], name: str, tokens: torch.Tensor, ends: torch.Tensor
) -> torch.Tensor:
    """(tokens sorted by expert, in) -> (tokens, out) by the stack `name`, with what its adapter adds."""
    from transformers.integrations.moe import _grouped_mm

    stack = getattr(experts, name)
    # Stacks are (experts, in, out) or (experts, out, in).
    straight = _is_llama4(experts) or experts.is_transposed
    found: torch.Tensor = _grouped_mm(tokens, stack if straight else stack.transpose(1, 2), ends)
    if name not in wrappers:
        return found
    wrapper = wrappers[name]
    (adapter,) = wrapper.active_adapters
    first, second, scale = wrapper.get_delta_factors(adapter)
    if not straight:
        first, second = second.transpose(1, 2), first.transpose(1, 2)
    if short := -first.shape[2] % (_ROW_BYTES // first.element_size()):
        first, second = functional.pad(first, (0, short)), functional.pad(second, (0, 0, 0, short))
    narrow = _grouped_mm(tokens, first.contiguous(), ends)
    return torch.add(found, _grouped_mm(narrow, second.contiguous(), ends), alpha=scale)


def _by_expert(chosen: torch.Tensor, experts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """For (tokens, choices) experts: the order that sorts them, and (experts,) int32, where each one's tokens end."""
    numbers, order = torch.sort(chosen.flatten(), stable=True)
    # A search in sorted numbers counts without asking the accelerator for a result, as counting in bins would.
    ends = torch.searchsorted(numbers, torch.arange(experts, device=chosen.device), right=True)
    return order, ends.to(torch.int32)


def _is_wrapper(layer: Any) -> bool:
    return type(layer).__name__ == "ParamWrapper"


def _is_llama4(experts: Any) -> bool:
    # Not the class alone: while peft has an adapter added to a stack, the module is of a class derived from its own.
    return any(kind.__name__ == "Llama4TextExperts" for kind in type(experts).__mro__)


def _apply(patches: list[Patch]) -> None:
    for module, forward in patches:
        module.forward = MethodType(forward, module)


def _problem(block: Any, patches: list[Patch], model: Any, autocast: torch.dtype) -> str:
    """What differs in a block with its patches from the block without them, in words; empty when nothing does."""
    hidden = model.config.get_text_config().hidden_size
    tokens = torch.randn(1, _TRIAL_TOKENS, hidden, generator=torch.Generator().manual_seed(0))
    tokens = tokens.to(model.device, model.dtype).requires_grad_()
    with _stirred(block), torch.autocast(model.device.type, autocast, enabled=autocast != torch.float32):
        try:
            expected = _outcome(block, tokens)
        except torch.OutOfMemoryError:
            _LOG.warning("%s does not fit in memory unchanged, so its change was not compared", type(block).__name__)
            return ""
        _apply(patches)
        try:
            found = _outcome(block, tokens)
        finally:
            for module, _ in patches:
                del module.forward
    for what, tensor in expected.items():
        off = float((found[what] - tensor).norm() / tensor.norm())
        if not off <= _TOLERANCE[autocast]:
            return f"in a trial {what} differed by {100 * off:.2g} %"
    return ""


def _outcome(block: Any, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """Output and gradients of a block."""
    found = block(tokens)
    output = (found[0] if isinstance(found, tuple) else found).flatten().float()
    weights = torch.linspace(-1, 1, len(output), device=output.device)
    learning = [p for p in block.parameters() if p.requires_grad]
    through, *of = torch.autograd.grad((output * weights).sum(), [tokens, *learning], allow_unused=True)
    outcome = {"outputs": output.detach(), "gradients of inputs": through.flatten().float()}
    if gradients := [g.flatten().float() for g in of if g is not None]:
        outcome["gradients of weights"] = torch.cat(gradients)
    return outcome


@contextmanager
def _stirred(block: Any) -> Iterator[None]:
    """For a while no matrix that learns is zero, as half of a new adapter is: zeros hide what is behind them."""
    zeros = [p for p in block.parameters() if p.requires_grad and not p.any()]
    with torch.no_grad():
        for parameter in zeros:
            parameter.normal_(std=0.1)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter in zeros:
                parameter.zero_()
