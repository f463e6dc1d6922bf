"""From what a wire protocol says of an answer to what is recorded: the same for all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from anneal.api.model import ApiModel
from anneal_hosted.endpoints.endpoint import Reply
from anneal_hosted.endpoints.names import snapshot
from anneal_hosted.errors import MODEL_CHANGED, mistake

Ending = Literal["done", "limit", "declined", "called"]


def version_of(options: ApiModel, schema: Mapping[str, Any] | None, requests: str) -> str:
    """Everything of a hosted endpoint that decides an answer: its URL, model and settings, the form of its replies.

    Answers in batches took nobody's time, so they stand in for no others.
    """
    shape = {"schema": schema} if schema is not None else {}
    how = {"requests": requests} if requests != "Single" else {}
    return json.dumps({**options.to_json(), **shape, **how}, sort_keys=True)


def reply(
    where: str, asked: str, answered: str, text: str | None, ending: Ending, tokens: tuple[int | None, int | None]
) -> Reply:
    """The reply of a hosted model; `tokens` are those of question and answer.

    Raises RunError when another model answered than the one asked.
    """
    if snapshot(asked, answered) is None:
        raise mistake(
            MODEL_CHANGED,
            f"{where} was asked for {asked!r}, but {answered[:100]!r} answered, which is"
            " another model. Name the model that the endpoint has, or choose an endpoint that does not substitute.",
        )
    said = text or ""
    if ending == "limit":
        return Reply(said, "truncated", *tokens, model=answered)
    if ending == "declined":
        return Reply(said, "declined", *tokens, detail="the model or its provider declined to answer", model=answered)
    if ending == "called":
        return Reply("", "unreadable", *tokens, detail="it calls a tool, and none was offered", model=answered)
    if not said.strip():
        return Reply("", "empty", *tokens, detail="the answer has no text", model=answered)
    return Reply(said, "answered", *tokens, model=answered)


def unreadable(content: bytes, error: ValidationError) -> Reply:
    """A reply that is not one of its protocol. It may have been paid for, so it is not asked for again."""
    problem, shown = error.errors()[0], content[:200].decode(errors="replace")
    what = f"{'.'.join(map(str, problem['loc'])) or 'body'}: {problem['msg']}"
    return Reply("", "unreadable", None, None, detail=f"HTTP 200 with no answer in it ({what}): {shown}")
