"""A crash before and after every write, and crashes after crashes: the end is always that of the undisturbed run."""

from __future__ import annotations

import pytest
from tests.sweep.crashes import search
from tests.sweep.ledger import Ledger
from tests.sweep.simulation import Story
from tests.sweep.stories import KINDS, STORIES


@pytest.mark.parametrize("story", STORIES, ids=lambda s: s.name)
def test_a_crash_anywhere_changes_nothing(story: Story, ledger: Ledger) -> None:
    found = search(story, KINDS)
    assert found.points > 0
    ledger.count("crash points", found.points)
    ledger.count("states that crashes left", found.states)
