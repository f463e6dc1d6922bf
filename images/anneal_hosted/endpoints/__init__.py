"""Who is asked. To add a wire protocol: one module with a class that is an `Endpoint`, one member of `Hosted`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp

from anneal.api.subjects import Hosted
from anneal_hosted.endpoints.anthropic import AnthropicEndpoint
from anneal_hosted.endpoints.anthropic_batches import AnthropicBatches
from anneal_hosted.endpoints.batches import Batches
from anneal_hosted.endpoints.embeddings import EmbeddingsEndpoint
from anneal_hosted.endpoints.endpoint import Endpoint
from anneal_hosted.endpoints.http import Caller
from anneal_hosted.endpoints.openai import OpenAIEndpoint
from anneal_hosted.endpoints.openai_batches import OpenAIBatches


def hosted_endpoint(
    name: str,
    hosted: Hosted,
    key: str | None,
    session: aiohttp.ClientSession,
    schema: Mapping[str, Any] | None = None,
) -> Endpoint:
    """The endpoint of the hosted model `name`, which answers in JSON of `schema` where there is one.

    Raises ValueError when it speaks a protocol that is not known.
    """
    if hosted.open_ai is not None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return OpenAIEndpoint(
            hosted.open_ai, Caller(session, name, hosted.open_ai.base_url, headers, key), schema, hosted.requests
        )
    if hosted.anthropic is not None:
        headers = {"anthropic-version": "2023-06-01"} | ({"x-api-key": key} if key else {})
        return AnthropicEndpoint(
            hosted.anthropic, Caller(session, name, hosted.anthropic.base_url, headers, key), schema, hosted.requests
        )
    raise ValueError(f"hosted model {name} has no wire protocol that is known here")


def embeddings_endpoint(
    name: str, hosted: Hosted, key: str | None, session: aiohttp.ClientSession
) -> EmbeddingsEndpoint:
    """The endpoint of an embedding model. Raises ValueError when it speaks a protocol that is not known."""
    if hosted.open_ai is None:
        raise ValueError(f"embedding model {name} has no wire protocol that is known here")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return EmbeddingsEndpoint(hosted.open_ai, Caller(session, name, hosted.open_ai.base_url, headers, key))


def batches_of(endpoint: Endpoint) -> Batches:
    """The batch API of a hosted endpoint. Raises ValueError for one that has none."""
    if isinstance(endpoint, OpenAIEndpoint):
        return OpenAIBatches(endpoint)
    if isinstance(endpoint, AnthropicEndpoint):
        return AnthropicBatches(endpoint)
    raise ValueError(f"{endpoint.where} has no batch API that is known here")
