"""What is wrong with an object that its schema should have refused, in one sentence for its author."""

from __future__ import annotations

from pydantic import ValidationError


def complaint(error: ValidationError) -> str:
    """The first thing that is wrong, with its field and what was given, and how much else there is."""
    found = error.errors(include_url=False)
    first = found[0]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    given = f" is {str(first['input'])[:64]!r}" if isinstance(first["input"], str | int | float) else ""
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{field}{given}: {first['msg'].removeprefix('Value error, ')}{more}"
