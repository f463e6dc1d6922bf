"""In which order files are handed to xdist's workers."""

from __future__ import annotations

import pytest

#: Files that take minutes. Workers end together when these begin first, and in this order.
LONGEST = ("test_vllm_serving", "test_triton_serving", "test_vllm_families", "test_operator_process", "test_crds")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest first; with xdist's --no-loadscope-reorder, which would go by the number of tests."""
    place = {name: n for n, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))
