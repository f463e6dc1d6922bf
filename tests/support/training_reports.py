"""A training report with everything in it, hostile names among it."""

from __future__ import annotations

from typing import Any

from anneal_trainer.publish.page import page

REPORT: dict[str, Any] = {
    "object": {"name": "<script>alert(1)</script>"},
    "digest": "sha256:" + "a" * 64,
    "model": {"uri": 'pvc://hub/"><img src=x>', "digest": "sha256:b", "chatTemplateHash": "sha256:c"},
    "heldOutDigest": "sha256:d",
    "packages": {"torch": "2"},
    "training": {"learningRate": "</pre><script>"},
    "trained": {"loss": "0.12", "steps": 1200, "tokens": 90_000, "seconds": 300, "mfu": "0.400"},
    "history": [
        {"step": step, "loss": 3 / step**0.6, "tokensPerSecond": 300 + step % 7, "peakMemoryBytes": 2**31, "mfu": 0.4}
        for step in range(10, 1210, 10)
    ],
}


def training_page() -> str:
    """The page of `REPORT`."""
    rates = [(float(step), 1e-3 * (1 - step / 1200)) for step in range(0, 1200, 10)]
    return page(REPORT, rates, {"read": 600, "invalid": 0, "trained on": 450, "held out": 150})
