"""OpenAI's batch API: a file of requests goes up, a batch is made of it, files of answers and of errors come down."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import aiohttp
from pydantic import BaseModel

from anneal_hosted.endpoints.batches import MOST_RESULT_BYTES, Item, M, Unanswered, lines, read
from anneal_hosted.endpoints.chats import Chat
from anneal_hosted.endpoints.endpoint import Reply
from anneal_hosted.endpoints.openai import PATH, OpenAIEndpoint
from anneal_hosted.errors import ENDPOINT_UNUSABLE, mistake

_KEY = "anneal"


class _Error(BaseModel):
    code: str | None = None
    message: str | None = None

    def __str__(self) -> str:
        return ", ".join(part for part in (self.code, self.message) if part) or "it gives no reason"


class _Errors(BaseModel):
    data: list[_Error] = []


class _Batch(BaseModel):
    id: str
    status: Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: _Errors | None = None
    metadata: dict[str, str] | None = None


class _Page(BaseModel):
    data: list[_Batch]
    has_more: bool = False


class _File(BaseModel):
    id: str


class _Response(BaseModel):
    status_code: int
    body: Any = None


class _Line(BaseModel):
    custom_id: str
    response: _Response | None = None
    error: _Error | None = None


class OpenAIBatches:
    """The batches of one model behind an OpenAI-compatible API."""

    def __init__(self, endpoint: OpenAIEndpoint) -> None:
        self._endpoint, self._caller = endpoint, endpoint.caller

    async def send(self, key: str, items: Sequence[Item]) -> str:
        wanted = {
            "input_file_id": (await self._read(_File, "POST", "/files", form=self._form(items))).id,
            "endpoint": f"/v1{PATH}",
            "completion_window": "24h",
            "metadata": {_KEY: key},
        }
        return (await self._read(_Batch, "POST", "/batches", body=wanted)).id

    async def find(self, key: str, size: int, others: frozenset[str]) -> str | None:
        after = ""
        while True:
            page = await self._read(_Page, "GET", f"/batches?limit=100{after}")
            for batch in page.data:
                if (batch.metadata or {}).get(_KEY) == key and batch.id not in others:
                    return batch.id
            if not page.has_more or not page.data:
                return None
            after = f"&after={page.data[-1].id}"

    async def is_over(self, batch: str) -> bool:
        return (await self._look(batch)).status in ("failed", "completed", "expired", "cancelled")

    async def results(self, batch: str, chats: Mapping[str, Chat]) -> Mapping[str, Reply | Unanswered]:
        found = await self._look(batch)
        if found.status == "failed":
            why = "; ".join(map(str, found.errors.data[:3])) if found.errors else "it gives no reason"
            raise mistake(ENDPOINT_UNUSABLE, f"{self._caller.where} did not take the batch {batch}: {why}.")
        told: dict[str, Reply | Unanswered] = {}
        for file in filter(None, (found.output_file_id, found.error_file_id)):
            content = await self._caller.send("GET", f"/files/{file}/content", most=MOST_RESULT_BYTES)
            for line in lines(content):
                item = read(_Line, line, self._caller.where)
                if item.custom_id in chats:
                    told[item.custom_id] = self._told(item, chats[item.custom_id])
        return told

    async def _look(self, batch: str) -> _Batch:
        return await self._read(_Batch, "GET", f"/batches/{batch}")

    async def _read(self, model: type[M], method: str, path: str, **sent: Any) -> M:
        return read(model, await self._caller.send(method, path, **sent), self._caller.where)

    def _form(self, items: Sequence[Item]) -> aiohttp.FormData:
        requests = [
            {
                "custom_id": item.name,
                "method": "POST",
                "url": f"/v1{PATH}",
                "body": self._endpoint.body(item.chat, item.max_tokens),
            }
            for item in items
        ]
        content = "".join(json.dumps(request, ensure_ascii=False) + "\n" for request in requests).encode()
        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        form.add_field("file", content, filename="batch.jsonl", content_type="application/jsonl")
        return form

    def _told(self, item: _Line, chat: Chat) -> Reply | Unanswered:
        if item.error is not None:
            late = item.error.code == "batch_expired"
            return Unanswered("timedOut" if late else "rejected", str(item.error))
        if item.response is None:
            return Unanswered("rejected", "neither a response nor an error")
        if item.response.status_code != 200:
            said = json.dumps(item.response.body, ensure_ascii=False)[:300]
            is_passing = item.response.status_code in (408, 429) or item.response.status_code >= 500
            return Unanswered("timedOut" if is_passing else "rejected", f"HTTP {item.response.status_code}: {said}")
        return self._endpoint.reply(json.dumps(item.response.body).encode(), chat)
