"""Whether the model that answered is the one that was asked.

Providers answer an alias with the dated snapshot behind it, and gateways put or drop the vendor before the name.
Anything else is another model: a gateway that fell back to a cheaper one would make the candidate look better.
"""

from __future__ import annotations

import re

_DATE = re.compile(r"[-@](\d{4}|\d{6}|\d{8}|\d{4}-\d{2}-\d{2})")


def snapshot(asked: str, answered: str) -> str | None:
    """What `answered` has beyond `asked`: '' for the same name, '-2025-08-07' for a snapshot; None: another model."""
    wanted, named = asked.rpartition("/")[2], answered.rpartition("/")[2]
    if named == wanted:
        return ""
    stem = wanted.removesuffix("-latest")
    beyond = named.removeprefix(stem)
    return beyond if beyond != named and _DATE.fullmatch(beyond) else None
