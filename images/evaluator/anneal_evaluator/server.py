"""The server as the evaluator sees it: a question goes in, a reply or one of two kinds of trouble comes out.

Triton answers HTTP 400 both to a question that the model refuses and to one whose model process has died, so refusals
are told by how they begin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import numpy as np
from tritonclient.http.aio import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

#: How the serving image begins a refusal (anneal_serving.questions).
REFUSAL = "bad request: "


class ServerAwayError(Exception):
    """The server, not the model, failed; the message says how."""


class RefusedError(Exception):
    """The model refused the question; the message says why."""


@dataclass(frozen=True)
class Reply:
    """What the server returned for one question."""

    text: str
    finish_reason: str
    input_tokens: int
    output_tokens: int


class Server(Protocol):
    """Who is asked. Raises RefusedError or ServerAwayError; waits as long as it takes."""

    async def ask(self, model: str, messages: str, max_tokens: int) -> Reply:
        """The reply to a chat, given as a JSON list of messages."""

    async def version(self) -> str:
        """Name and version of what answers."""


class TritonServer:
    """A Triton server by its HTTP client."""

    def __init__(self, client: InferenceServerClient) -> None:
        self._client = client

    async def version(self) -> str:
        try:
            described = await self._client.get_server_metadata()
        except (InferenceServerException, aiohttp.ClientError, ConnectionError) as error:
            raise ServerAwayError(str(error)) from error
        return f"{described['name']} {described['version']}"

    async def ask(self, model: str, messages: str, max_tokens: int) -> Reply:
        inputs = [InferInput("messages", [1, 1], "BYTES"), InferInput("max_tokens", [1, 1], "INT32")]
        inputs[0].set_data_from_numpy(np.array([[messages.encode()]], dtype=np.object_))
        inputs[1].set_data_from_numpy(np.array([[max_tokens]], dtype=np.int32))
        try:
            result = await self._client.infer(model, inputs)
        except InferenceServerException as error:
            message = str(error.message())
            if REFUSAL in message:
                raise RefusedError(message.partition(REFUSAL)[2]) from error
            raise ServerAwayError(f"model {model}: {message}") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise ServerAwayError(f"model {model}: {error!r}") from error
        values: dict[str, Any] = {
            name: result.as_numpy(name).item()
            for name in ("text_output", "finish_reason", "num_input_tokens", "num_output_tokens")
        }
        return Reply(
            text=values["text_output"].decode(errors="replace"),
            finish_reason=values["finish_reason"].decode(),
            input_tokens=values["num_input_tokens"],
            output_tokens=values["num_output_tokens"],
        )
