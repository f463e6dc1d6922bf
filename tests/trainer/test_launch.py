"""What a pod says of ranks that ended differently."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from anneal.api.runs import RunResult
from anneal_trainer.errors import Preempted, TrainerError, Unavailable, UserMistake
from anneal_trainer.launch import left_behind, most_important
from anneal_trainer.termination import result_of, write_result

DONE = RunResult(role="fit", outcome="Succeeded", reason="Trained", message="6 steps")
MISTAKE = UserMistake("ModelUnusable", "broken")
NO_ROOM = Unavailable("OutOfMemory", "out of memory")
LOST = Preempted("rank 0 lost another of 2 ranks")


def ended(*errors: TrainerError | Preempted | None) -> list[RunResult | None]:
    """How ranks ended; None for one that was killed before it could say so."""
    return [None if error is None else result_of("fit", error) for error in errors]


@pytest.mark.parametrize(
    ("ranks", "told"),
    [
        ([*ended(LOST), DONE], "Preempted"),
        (ended(None, LOST), "RankKilled"),
        (ended(None, NO_ROOM, LOST), "OutOfMemory"),
        (ended(None, NO_ROOM, MISTAKE), "ModelUnusable"),
    ],
    ids=["preempted", "killed", "out of memory, and killed while it waited", "a mistake"],
)
def test_what_began_it_is_told_whichever_rank_it_was(ranks: list[RunResult | None], told: str, tmp_path: Path) -> None:
    for number, order in enumerate(permutations(ranks)):
        folder = tmp_path / str(number)
        folder.mkdir()
        for rank, result in enumerate(order):
            if result is not None:
                write_result(folder / f"rank-{rank}", result)
        assert most_important(left_behind(folder, len(order))).reason == told
