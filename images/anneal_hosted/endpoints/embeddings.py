"""OpenAI's embeddings (POST {baseUrl}/embeddings): OpenAI, vLLM, Vincony and most gateways.

A question is a list of texts, told as the turns of a chat; its answer is their vectors: base64 of all their numbers, in
the order of the texts, in 4 bytes each (IEEE 754, little-endian).
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from anneal.api.subjects import OpenAI
from anneal_hosted.endpoints.endpoint import Reply
from anneal_hosted.endpoints.http import Caller
from anneal_hosted.endpoints.replies import reply, unreadable

PATH = "/embeddings"
#: 64 vectors of 4,096 numbers of 22 characters take 6 MB.
MOST_BYTES = 32 * 1024 * 1024


class _Vector(BaseModel):
    index: int = Field(ge=0)
    embedding: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(min_length=1)


class _Usage(BaseModel):
    prompt_tokens: int = Field(ge=0)


class _List(BaseModel):
    model: str = Field(min_length=1)
    data: list[_Vector]
    usage: _Usage | None = None


class EmbeddingsEndpoint:
    """One embedding model behind an OpenAI-compatible API."""

    advice = "See the status page of the provider."

    def __init__(self, options: OpenAI, caller: Caller) -> None:
        self._options, self._caller = options, caller
        self.where = caller.where

    async def version(self) -> str:
        return json.dumps({"embeddings": self._options.base_url, "model": self._options.model})

    async def ask(self, model: str, messages: str, max_tokens: int) -> Reply:
        texts = [turn["content"] for turn in json.loads(messages)]
        body = {"model": self._options.model, "input": texts, "encoding_format": "float"}
        return self._reply(await self._caller.send("POST", PATH, body, most=MOST_BYTES), len(texts))

    def _reply(self, content: bytes, wanted: int) -> Reply:
        """What came back: the body of a 200. Raises RunError."""
        try:
            found = _List.model_validate_json(content)
        except ValidationError as error:
            return unreadable(content, error)
        tokens = (found.usage.prompt_tokens if found.usage else None, 0)
        try:
            text = _text(found.data, wanted)
        except ValueError as error:
            return Reply("", "unreadable", *tokens, detail=str(error), model=found.model)
        return reply(self.where, self._options.model, found.model, text, "done", tokens)


def _text(found: list[_Vector], wanted: int) -> str:
    """Vectors of length 1 in the order of their texts, as text. Raises ValueError for what cannot be compared."""
    if sorted(vector.index for vector in found) != list(range(wanted)):
        raise ValueError(f"{len(found)} vectors for {wanted} texts, or not one for each")
    if len({len(vector.embedding) for vector in found}) > 1:
        raise ValueError("vectors of different lengths")
    directions = [_direction(vector.embedding) for vector in sorted(found, key=lambda v: v.index)]
    return base64.b64encode(b"".join(struct.pack(f"<{len(d)}f", *d) for d in directions)).decode()


def _direction(vector: Sequence[float]) -> list[float]:
    length = math.hypot(*vector)
    if not 0 < length < math.inf:
        raise ValueError("a vector without a direction: all of it is 0, or too large")
    return [x / length for x in vector]
