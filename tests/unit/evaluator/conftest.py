"""What the tests of the evaluator share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """A folder that has no other test's reports beside it.

    What lies beside a report is taken over where its key is the same, and a local server may get the port of another
    test's.
    """
    own = tmp_path / "reports" / "own"
    own.mkdir(parents=True)
    return own
