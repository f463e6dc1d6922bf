"""What the guide to fine-tuning says about memory and time is what the operator would put into status.estimate.

`pytest tests/unit/estimate/test_bases.py -s` prints both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from tests.conftest import REPOSITORY
from tests.support.bases import BASES, DEMO_ROWS
from tests.support.builders import fine_tune_job

from anneal.api.estimate import Estimate, RowShape, Sizes
from anneal.api.finetunejob import FineTuneJobSpec
from anneal.estimate.accelerators import KNOWN, smallest_that_holds
from anneal.estimate.memory import GIB, USABLE
from anneal.estimate.shape import shape_of
from anneal.kinds.contract import Planning
from anneal.kinds.finetunejob.estimate import estimated

PAGE = (REPOSITORY / "docs" / "fine-tuning.md").read_text(encoding="utf-8")
#: 2,000 rows of 500 tokens, of which 200 are the answer.
ROWS = RowShape(tokens=1_000_000, answer_tokens=400_000, longest=2048, squares=500_000_000)
METHODS: tuple[Mapping[str, Any], ...] = (
    {"lora": {}},
    {"qlora": {}},
    {"full": {"optimizer": "AdamW8bit"}},
    {"full": {}},
)
H100 = "NVIDIA-H100-80GB-HBM3"
#: Products by what their makers call their memory.
CARDS = {
    "NVIDIA-A10": "24 GB",
    "NVIDIA-A100-PCIE-40GB": "40 GB",
    "NVIDIA-L40S": "48 GB",
    H100: "80 GB",
    "NVIDIA-H100-NVL": "94 GB",
    "NVIDIA-H200": "141 GB",
    "NVIDIA-B200": "192 GB",
}
#: Above it a CPU is no choice.
MOST_ON_CPU = 64 * GIB


def estimate(base: str, method: Mapping[str, Any], resources: Mapping[str, Any]) -> Estimate:
    """status.estimate of a job with that base, all else by default."""
    spec = fine_tune_job(resources=resources)["spec"] | {"workspace": {"accessMode": "ReadWriteMany"}}
    del spec["lora"], spec["training"]
    sizes = Sizes(model=shape_of(BASES[base]), rows=ROWS)
    return estimated(FineTuneJobSpec.model_validate(spec | method), sizes, Planning())


def least(base: str, method: Mapping[str, Any]) -> int:
    """Bytes of an accelerator that can just do it: one that has nearly nothing is told what it would need."""
    memory = estimate(base, method, {"accelerator": {"minMemory": "1M"}}).memory
    return memory.total_bytes


def on_h100(base: str, method: Mapping[str, Any]) -> tuple[int, Estimate] | None:
    """The smallest power of two of H100s that can do it, with what would be in status; None when no number can."""
    for count in (2**power for power in range(9)):
        accelerator = {"products": [H100], "perNode": min(count, 8)}
        resources = {"nodes": max(1, count // 8), "memory": "4Ti", "accelerator": accelerator}
        found = estimate(base, method, resources)
        if found.fit == "Fits":
            return count, found
    return None


def needs(base: str, method: Mapping[str, Any]) -> str:
    """GiB at least, and what has them."""
    size = least(base, method)
    card = smallest_that_holds(round(size / USABLE), KNOWN)
    ways = [CARDS[card.product]] if card is not None else []
    if (card is None or card.memory_mib > 90_000) and (several := on_h100(base, method)) is not None:
        ways.append(f"{several[0]} x 80 GB")
    return f"{gib(size)}: {' or '.join(ways) or 'none'}"


def gib(size: int) -> str:
    return f"{size / GIB:.3g}" if size < 1000 * GIB else f"{size / GIB:,.0f}"


def on_cpu(base: str) -> str:
    size = estimate(base, {"lora": {}}, {"memory": "1M"}).memory.total_bytes
    return gib(size) if size <= MOST_ON_CPU else "–"


def how_long(base: str) -> str:
    """Of a million tokens."""
    found = on_h100(base, {"lora": {}})
    assert found is not None
    count, said = found
    assert said.seconds is not None
    return f"{said.seconds / 60:.1f} min on {count}" if said.seconds >= 60 else f"under a minute on {count}"


def row(base: str) -> str:
    billions = shape_of(BASES[base]).parameters / 1e9
    cells = [base, f"{billions:.3g}", on_cpu(base), *(needs(base, method) for method in METHODS), how_long(base)]
    return f"| {' | '.join(cells)} |"


def test_the_table_of_bases_is_what_the_operator_estimates() -> None:
    rows = [row(base) for base in BASES]
    print("\n" + "\n".join(rows))
    assert "\n".join(rows) in PAGE


def test_the_sample_needs_what_the_page_says() -> None:
    sample = yaml.safe_load((REPOSITORY / "manifests" / "samples" / "finetunejob.yaml").read_text(encoding="utf-8"))
    sizes = Sizes(model=shape_of(BASES["SmolLM2-135M"]), rows=DEMO_ROWS)
    said = estimated(FineTuneJobSpec.model_validate(sample["spec"]), sizes, Planning()).message
    print("\n" + said)
    assert said in " ".join(PAGE.split())
