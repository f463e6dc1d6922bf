"""Asks a served model, through Triton's generate endpoint."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from anneal.cli.cluster import Reader, Unreachable


def ask(reader: Reader, namespace: str, name: str, messages: list[dict[str, str]], max_tokens: int) -> str:
    """The answer of ModelDeployment `name` to a conversation. Raises Unreachable with the reason when there is none."""
    url = reader.deployment(namespace, name).get("status", {}).get("url")
    if not url:
        raise Unreachable(f"ModelDeployment {name} serves nothing yet; see `kubectl get mdep {name} -o wide`")
    parts = urlsplit(url)
    body = {"messages": json.dumps(messages), "max_tokens": max_tokens}
    service = (parts.hostname or "").partition(".")[0]
    answer: Any = reader.post_to_service(namespace, service, parts.port or 80, parts.path, body)
    if not isinstance(answer, dict) or "text_output" not in answer:
        raise Unreachable(f"the model's answer cannot be read: {str(answer)[:200]}")
    return str(answer["text_output"])
