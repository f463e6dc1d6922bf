"""Every runtime is asked in its own words, and an answer that is none is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from anneal.cli.ask import ask
from anneal.cli.cluster import Unreachable

MESSAGES = [{"role": "user", "content": "hello"}]
TRITON = "http://intents.team.svc:8000/v2/models/intents/generate"
VLLM = "http://intents.team.svc:8000/v1/chat/completions"


class Cluster:
    """What `ask` needs of a Reader: one deployment, and a Service that says one thing."""

    def __init__(self, url: str | None, said: Any) -> None:
        self.url, self.said = url, said
        self.asked: tuple[Any, ...] = ()

    def deployment(self, namespace: str, name: str) -> dict[str, Any]:
        return {"status": {"url": self.url} if self.url else {}}

    def post_to_service(self, *asked: Any) -> Any:
        self.asked = asked
        return self.said


def test_triton_is_asked_by_its_generate_endpoint() -> None:
    cluster = Cluster(TRITON, {"text_output": "hi"})
    assert ask(cluster, "team", "intents", MESSAGES, 32) == "hi"
    body = {"messages": json.dumps(MESSAGES), "max_tokens": 32}
    assert cluster.asked == ("team", "intents", 8000, "/v2/models/intents/generate", body)


def test_vllm_is_asked_by_name_since_without_one_its_base_answers() -> None:
    cluster = Cluster(VLLM, {"choices": [{"message": {"content": "hi"}}]})
    assert ask(cluster, "team", "intents", MESSAGES, 32) == "hi"
    assert cluster.asked[3:] == (
        "/v1/chat/completions",
        {"model": "intents", "messages": MESSAGES, "max_tokens": 32, "temperature": 0},
    )


@pytest.mark.parametrize(
    ("url", "said", "sentence"),
    [
        (None, {}, "serves nothing yet"),
        (TRITON, {"error": "no"}, "cannot be read"),
        (TRITON, "<html>", "cannot be read"),
        (VLLM, {"choices": []}, "cannot be read"),
    ],
)
def test_no_answer_is_told(url: str | None, said: Any, sentence: str) -> None:
    with pytest.raises(Unreachable, match=sentence):
        ask(Cluster(url, said), "team", "intents", MESSAGES, 32)
