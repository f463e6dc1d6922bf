"""Several claims of which any may hold: who makes four at 2.5 % each is wrong about one in nearly 10 %."""

from __future__ import annotations

from collections.abc import Callable


def holm(claims: int, holds: Callable[[int, int], bool]) -> dict[int, int]:
    """Which of so many claims hold, each with how many shared the chance to err when it was found to.

    `holds(claim, among)` says whether a claim holds where that chance is shared evenly by `among` of them. What holds
    leaves the others a larger share (Holm 1979): of claims that are false, one or more are found to hold no more often
    than a single one would be, however they depend on each other.
    """
    found: dict[int, int] = {}
    while left := [claim for claim in range(claims) if claim not in found]:
        newly = [claim for claim in left if holds(claim, len(left))]
        if not newly:
            break
        found |= dict.fromkeys(newly, len(left))
    return found
