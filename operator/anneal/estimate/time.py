"""Time of a training from its arithmetic: floating point operations, over what an accelerator is seen to reach."""

from __future__ import annotations

from anneal.api.estimate import ModelShape, RowShape
from anneal.estimate.memory import Work

#: Share of an accelerator's peak that training reaches, to start with: the pod's own pace is in status.progress.
DENSE_UTILISATION = 0.40
FULL_UTILISATION = 0.28
EXPERTS_UTILISATION = 0.15
SHARDED_UTILISATION = 0.28


def active_parameters(shape: ModelShape) -> int:
    """Parameters that one token is multiplied with, the head left out."""
    idle = shape.embedding_parameters + shape.head_parameters + shape.vision_parameters + shape.expert_parameters
    return shape.parameters - idle + shape.expert_parameters * shape.experts_per_token // max(1, shape.experts)


def flops_per_token(work: Work, rows: RowShape, recomputed: float) -> float:
    """Operations for one token, on average over the rows.

    A layer costs 2 per parameter forward, 2 backward, 2 more where its weights learn (a frozen weight has no gradient),
    and 2 more where its activations are recomputed. Attention costs 2 per pair of tokens for scores and 2 for values,
    over half of the pairs, and two and a half times that backward. The head is run on answers only.
    """
    shape, tokens = work.shape, max(1, rows.tokens)
    pairs = rows.squares / tokens / 2
    attention = 2 * (shape.query_width + shape.output_width) * shape.layers * pairs
    backward = 2 if work.adapter is not None else 4
    head = (2 + backward) * shape.vocabulary * shape.hidden * rows.answer_tokens / tokens
    forward = 2 * active_parameters(shape) + attention
    return forward * (1 + recomputed) + backward * active_parameters(shape) + 2.5 * attention + head


def tokens_per_second(work: Work, rows: RowShape, recomputed: float, peak_flops: float) -> float:
    """Expected throughput of one accelerator."""
    whole = DENSE_UTILISATION if work.adapter is not None else FULL_UTILISATION
    dense = min(whole, SHARDED_UTILISATION) if work.shards > 1 else whole
    utilisation = EXPERTS_UTILISATION if work.shape.experts else dense
    return utilisation * peak_flops / flops_per_token(work, rows, recomputed)
