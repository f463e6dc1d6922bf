"""Asks a served model, in the words of its runtime."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from anneal.cli.cluster import Reader, Unreachable

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Words:
    """How a runtime is asked, and where in what it says the answer is."""

    question: Callable[[str, Messages, int], dict[str, Any]]
    answer: Callable[[Any], Any]


TRITON = Words(
    lambda name, messages, max_tokens: {"messages": json.dumps(messages), "max_tokens": max_tokens},
    lambda said: said["text_output"],
)
VLLM = Words(
    lambda name, messages, max_tokens: {
        "model": name,
        "messages": messages,
        "max_tokens": max_tokens,
        "temperature": 0,
    },
    lambda said: said["choices"][0]["message"]["content"],
)


def ask(reader: Reader, namespace: str, name: str, messages: Messages, max_tokens: int) -> str:
    """The answer of ModelDeployment `name` to a conversation. Raises Unreachable with the reason when there is none."""
    url = reader.deployment(namespace, name).get("status", {}).get("url")
    if not url:
        raise Unreachable(f"ModelDeployment {name} serves nothing yet; see `kubectl get mdep {name} -o wide`")
    parts = urlsplit(url)
    words = VLLM if parts.path.endswith("/chat/completions") else TRITON
    service = (parts.hostname or "").partition(".")[0]
    question = words.question(name, messages, max_tokens)
    said: Any = reader.post_to_service(namespace, service, parts.port or 80, parts.path, question)
    try:
        return str(words.answer(said))
    except (KeyError, IndexError, TypeError) as error:
        raise Unreachable(f"the model's answer cannot be read: {str(said)[:200]}") from error
