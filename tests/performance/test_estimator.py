"""How far the estimate of memory is from what a pass takes, on tiny models of many shapes.

Errors are relative, of what autograd keeps (saved-tensor hooks) and of the most that is alive at once; the largest of
all is `estimator.max_error` in build/bench/training.json. Counted in tensors, so the machine does not matter.
"""

from __future__ import annotations

import pytest
from tests.performance.figures import record
from tests.support.estimator import CASES, measure

pytestmark = pytest.mark.performance

LIMIT = 0.08


def test_memory_is_estimated_within_8_percent() -> None:
    measured = {name: measure(case) for name, case in CASES.items()}
    cases = {
        name: {"kept": m.kept, "peak": m.peak, "updated": m.updated, "error": round(m.error, 4)}
        for name, m in sorted(measured.items())
    }
    largest = round(max(m.error for m in measured.values()), 4)
    record("estimator", {"max_error": largest, "limit": LIMIT, "cases": cases})
    assert len(measured) >= 12
    assert largest <= LIMIT
