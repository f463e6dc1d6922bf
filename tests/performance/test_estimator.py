"""How far the estimate of memory is from what a pass takes, on tiny models of many shapes.

Errors are relative, of what autograd keeps (saved-tensor hooks) and of the most that is alive at once; the largest of
all is `estimator.max_error` in build/bench/estimator.json. Counted in tensors, so the machine does not matter.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.estimator import CASES, measure

pytestmark = pytest.mark.performance

OUT = Path(__file__).resolve().parents[2] / "build" / "bench" / "estimator.json"
LIMIT = 0.08


def test_memory_is_estimated_within_8_percent() -> None:
    measured = {name: measure(case) for name, case in CASES.items()}
    result = {
        "cases": {
            name: {"kept": m.kept, "peak": m.peak, "error": round(m.error, 4)} for name, m in sorted(measured.items())
        },
        "estimator.max_error": round(max(m.error for m in measured.values()), 4),
        "limit": LIMIT,
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\n{json.dumps({name: round(m.error, 4) for name, m in measured.items()}, indent=2)}")
    assert len(measured) >= 12
    assert result["estimator.max_error"] <= LIMIT
