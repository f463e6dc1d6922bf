"""The estimate of memory is what a pass takes, to 8 %. All shapes are in tests/performance/test_estimator.py."""

from __future__ import annotations

import pytest
from tests.support.estimator import CASES, measure


@pytest.mark.parametrize("name", ["llama", "qwen3 in bfloat16", "llama4", "llama, all recomputed"])
def test_memory_is_estimated_within_8_percent(name: str) -> None:
    assert measure(CASES[name]).error <= 0.08
