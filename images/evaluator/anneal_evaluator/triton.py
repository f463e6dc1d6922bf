"""The Triton server beside the evaluator, which serves the candidate and the baselines that are models of ours.

Triton answers HTTP 400 both to a question that the model refuses and to one whose model process has died, so refusals
are told by how they begin.
"""

from __future__ import annotations

from typing import Any

import aiohttp
import numpy as np
from tritonclient.http.aio import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from anneal_hosted.endpoints.endpoint import AwayError, RefusedError, Reply

#: How the serving image begins a refusal (anneal_serving.questions).
REFUSAL = "bad request: "


class TritonEndpoint:
    """A Triton server by its HTTP client."""

    advice = "See the serving container of the pod."

    def __init__(self, client: InferenceServerClient, url: str) -> None:
        self._client = client
        self.where = f"The server at {url}"

    async def version(self) -> str:
        try:
            described = await self._client.get_server_metadata()
        except (InferenceServerException, aiohttp.ClientError, ConnectionError) as error:
            raise AwayError(str(error)) from error
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
            raise AwayError(f"model {model}: {message}") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise AwayError(f"model {model}: {error!r}") from error
        values: dict[str, Any] = {
            name: result.as_numpy(name).item()
            for name in ("text_output", "finish_reason", "num_input_tokens", "num_output_tokens")
        }
        return Reply(
            text=values["text_output"].decode(errors="replace"),
            outcome="answered" if values["finish_reason"] == b"stop" else "truncated",
            input_tokens=values["num_input_tokens"],
            output_tokens=values["num_output_tokens"],
        )
