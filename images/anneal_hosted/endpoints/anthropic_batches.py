"""Anthropic's Message Batches: one document of requests, and a file of results once it has ended.

A batch has no place for a key of ours, so one whose name was lost is known by its requests: their names are digests of
everything that was asked, and the results have them. Any batch with as many requests may be it until it has ended.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel

from anneal_hosted.endpoints.anthropic import PATH, AnthropicEndpoint
from anneal_hosted.endpoints.batches import MOST_RESULT_BYTES, Item, M, Unanswered, lines, read
from anneal_hosted.endpoints.chats import Chat
from anneal_hosted.endpoints.endpoint import Reply

_BATCHES = f"{PATH}/batches"


class _Counts(BaseModel):
    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0

    @property
    def all(self) -> int:
        return self.processing + self.succeeded + self.errored + self.canceled + self.expired


class _Batch(BaseModel):
    id: str
    processing_status: Literal["in_progress", "canceling", "ended"]
    request_counts: _Counts


class _Page(BaseModel):
    data: list[_Batch]
    has_more: bool = False


class _Result(BaseModel):
    type: Literal["succeeded", "errored", "canceled", "expired"]
    message: Any = None
    error: Any = None


class _Line(BaseModel):
    custom_id: str
    result: _Result


class AnthropicBatches:
    """The batches of one model behind Anthropic's Messages."""

    def __init__(self, endpoint: AnthropicEndpoint) -> None:
        self._endpoint, self._caller = endpoint, endpoint.caller

    async def send(self, key: str, items: Sequence[Item]) -> str:
        requests = [
            {"custom_id": item.name, "params": self._endpoint.body(item.chat, item.max_tokens)} for item in items
        ]
        return (await self._read(_Batch, "POST", _BATCHES, body={"requests": requests})).id

    async def find(self, key: str, size: int, others: frozenset[str]) -> str | None:
        after = ""
        while True:
            page = await self._read(_Page, "GET", f"{_BATCHES}?limit=100{after}")
            for batch in page.data:
                if batch.request_counts.all == size and batch.id not in others:
                    return batch.id
            if not page.has_more or not page.data:
                return None
            after = f"&after_id={page.data[-1].id}"

    async def is_over(self, batch: str) -> bool:
        return (await self._read(_Batch, "GET", f"{_BATCHES}/{batch}")).processing_status == "ended"

    async def results(self, batch: str, chats: Mapping[str, Chat]) -> Mapping[str, Reply | Unanswered]:
        content = await self._caller.send("GET", f"{_BATCHES}/{batch}/results", most=MOST_RESULT_BYTES)
        found = [read(_Line, line, self._caller.where) for line in lines(content)]
        return {
            item.custom_id: self._told(item.result, chats[item.custom_id]) for item in found if item.custom_id in chats
        }

    async def _read(self, model: type[M], method: str, path: str, **sent: Any) -> M:
        return read(model, await self._caller.send(method, path, **sent), self._caller.where)

    def _told(self, result: _Result, chat: Chat) -> Reply | Unanswered:
        if result.type == "succeeded":
            return self._endpoint.reply(json.dumps(result.message).encode(), chat)
        if result.type == "errored":
            said = json.dumps(result.error, ensure_ascii=False)
            return Unanswered("rejected" if "invalid_request" in said else "timedOut", said[:300])
        return Unanswered("timedOut", f"the batch was {result.type} before it was asked")
