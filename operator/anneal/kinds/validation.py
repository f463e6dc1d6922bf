"""What is wrong with an object that its schema should have refused, in one sentence for its author.

The API server refuses it first. What it let in before a rule was there must still end in a sentence, never in an
exception.
"""

from __future__ import annotations

from pydantic import ValidationError

from anneal.api.model import ApiModel
from anneal.kinds.contract import Object


def problem(obj: Object, model: type[ApiModel]) -> str | None:
    """The first thing that is wrong with the spec of `obj`, by its model; None when it can be worked on."""
    try:
        model.model_validate({"spec": obj.get("spec")})
    except ValidationError as error:
        return complaint(error)
    return None


def complaint(error: ValidationError) -> str:
    """The first thing that is wrong, with its field and what was given, and how much else there is."""
    found = error.errors(include_url=False)
    first = found[0]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    given = f" is {str(first['input'])[:64]!r}" if isinstance(first["input"], str | int | float) else ""
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    where = f"{field}{given}: " if field else ""
    return f"{where}{first['msg'].removeprefix('Value error, ')}{more}"
