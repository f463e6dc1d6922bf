"""Time of a training from its arithmetic: floating point operations, over what an accelerator is seen to reach."""

from __future__ import annotations

from anneal.api.estimate import ModelShape, RowShape

#: Share of an accelerator's peak that training reaches, to start with: the pod's own pace is in status.progress.
DENSE_UTILISATION = 0.40
EXPERTS_UTILISATION = 0.15


def active_parameters(shape: ModelShape) -> int:
    """Parameters that one token is multiplied with, the head left out."""
    idle = shape.embedding_parameters + shape.head_parameters + shape.vision_parameters + shape.expert_parameters
    return shape.parameters - idle + shape.expert_parameters * shape.experts_per_token // max(1, shape.experts)


def flops_per_token(shape: ModelShape, rows: RowShape, recomputed: float) -> float:
    """Operations for one token of low-rank training, on average over the rows.

    A frozen layer costs 2 per parameter forward and 2 backward (there is no gradient of its weights), and 2 more where
    its activations are recomputed. Attention costs 2 per pair of tokens for scores and 2 for values, over half of the
    pairs, and two and a half times that backward. The head is run on answers only, and needs no gradient either.
    """
    tokens = max(1, rows.tokens)
    pairs = rows.squares / tokens / 2
    forward = 2 * active_parameters(shape) + 2 * (shape.query_width + shape.output_width) * shape.layers * pairs
    attention_backward = 2.5 * 2 * (shape.query_width + shape.output_width) * shape.layers * pairs
    head = 4 * shape.vocabulary * shape.hidden * rows.answer_tokens / tokens
    return forward * (1 + recomputed) + 2 * active_parameters(shape) + attention_backward + head


def tokens_per_second(shape: ModelShape, rows: RowShape, recomputed: float, peak_flops: float) -> float:
    """Expected throughput of one accelerator."""
    utilisation = EXPERTS_UTILISATION if shape.experts else DENSE_UTILISATION
    return utilisation * peak_flops / flops_per_token(shape, rows, recomputed)
