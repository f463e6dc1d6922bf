"""A local server that speaks the wire formats of OpenAI's chat completions and embeddings and of Anthropic's Messages.

A fake, since the real ones cost money and need the internet: formats, status codes and headers are theirs, answers are
what a script says. It counts every request that a provider would bill. `python hosted_models.py PORT` serves the
default script, for use in a cluster; it needs nothing but Python.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: Json
    attempt: int
    """How often this question was asked before."""

    @property
    def text(self) -> str:
        """The last message."""
        return text_of(self.body)


def text_of(body: Json) -> str:
    """The last message, what a tool answered among it; the texts whose embeddings are wanted."""
    if "input" in body:
        return json.dumps(body["input"])
    content = body["messages"][-1]["content"]
    return str(content if isinstance(content, str) else content[-1]["content"])


@dataclass(frozen=True)
class Said:
    """One response. `content` None is null content; `raw` replaces the whole body; `calls` are (tool, arguments)."""

    content: str | None = "yes"
    finish: str = "stop"
    model: str = ""
    usage: tuple[int, int] | None = (10, 2)
    status: int = 200
    error: Json | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    seconds: float = 0.0
    is_expired: bool = False
    """In a batch: it was not asked before the batch ended."""
    calls: tuple[tuple[str, Json], ...] = ()


Script = Callable[[Asked], Said]


def always_yes(asked: Asked) -> Said:
    return Said()


def too_many_requests(retry_after: str = "0") -> Said:
    error = {"message": "Rate limit reached for requests", "type": "requests", "code": "rate_limit_exceeded"}
    return Said(status=429, error=error, headers={"Retry-After": retry_after})


@dataclass
class HostedModels:
    """Where it listens, what it does and what it was asked."""

    url: str
    script: Script
    asked: list[Asked] = field(default_factory=list)
    billed: Counter[str] = field(default_factory=Counter)
    """Answers that a provider would bill, by question."""
    busy: int = 0
    busiest: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    batches: Batches = field(default_factory=lambda: Batches())

    def take(self, path: str, headers: Mapping[str, str], body: Json) -> Asked:
        with self.lock:
            question = text_of(body)
            attempt = sum(1 for before in self.asked if before.text == question)
            asked = Asked(path, headers, body, attempt)
            self.asked.append(asked)
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
            return asked

    def done(self, asked: Asked, said: Said) -> None:
        with self.lock:
            self.busy -= 1
            if said.status == 200:
                self.billed[asked.text] += 1


def openai_body(asked: Asked, said: Said) -> Json:
    if said.error is not None:
        return {"error": said.error}
    usage = said.usage and {
        "prompt_tokens": said.usage[0],
        "completion_tokens": said.usage[1],
        "total_tokens": sum(said.usage),
    }
    message: Json = {"role": "assistant", "content": said.content, "refusal": None}
    if said.calls:
        functions = [{"name": name, "arguments": json.dumps(arguments)} for name, arguments in said.calls]
        message["tool_calls"] = [
            {"id": f"call_{n}", "type": "function", "function": f} for n, f in enumerate(functions)
        ]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_750_000_000,
        "model": said.model or asked.body["model"],
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": said.finish}],
        **({"usage": usage} if usage else {}),
    }


_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal", "tool_calls": "tool_use"}


def anthropic_body(asked: Asked, said: Said) -> Json:
    if said.error is not None:
        return {"type": "error", "error": said.error}
    blocks = [] if said.content is None else [{"type": "text", "text": said.content}]
    blocks += [{"type": "tool_use", "id": f"toolu_{n}", "name": f, "input": i} for n, (f, i) in enumerate(said.calls)]
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": said.model or asked.body["model"],
        "content": blocks,
        "stop_reason": _STOP_REASONS.get(said.finish, said.finish),
        "stop_sequence": None,
        **({"usage": {"input_tokens": said.usage[0], "output_tokens": said.usage[1]}} if said.usage else {}),
    }


def embeddings_body(asked: Asked, said: Said) -> Json:
    """`said.content` is the vectors as JSON; they come in another order than the texts, which the format allows."""
    if said.error is not None:
        return {"error": said.error}
    vectors = enumerate(json.loads(said.content or "[]"))
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in vectors]
    usage = said.usage and {"prompt_tokens": said.usage[0], "total_tokens": said.usage[0]}
    return {
        "object": "list",
        "data": data[::-1],
        "model": said.model or asked.body["model"],
        **({"usage": usage} if usage else {}),
    }


_BODIES = {
    "/v1/chat/completions": openai_body,
    "/v1/embeddings": embeddings_body,
    "/v1/messages": anthropic_body,
}


@dataclass
class Batches:
    """What was sent in batches. They end when they were looked at `looks` times."""

    looks: int = 1
    made: dict[str, Json] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)

    def is_over(self, name: str) -> bool:
        self.seen[name] += 1
        return self.seen[name] > self.looks


def _lines(entries: list[Json]) -> bytes:
    return b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)


def _answered(models: HostedModels, path: str, body: Json) -> Said:
    """One item of a batch, answered and billed as a request of its own would be."""
    asked = models.take(path, {}, body)
    said = models.script(asked)
    models.done(asked, replace(said, status=400) if said.is_expired else said)
    return said


def make_openai_batch(models: HostedModels, wanted: Json) -> Json:
    entries, errors = [], []
    for line in models.batches.files[wanted["input_file_id"]].splitlines():
        item = json.loads(line)
        assert (item["method"], item["url"], wanted["endpoint"]) == ("POST", *["/v1/chat/completions"] * 2)
        said = _answered(models, item["url"], item["body"])
        told: Json = {"id": "batch_req", "custom_id": item["custom_id"], "response": None, "error": None}
        if said.is_expired:
            told["error"] = {"code": "batch_expired", "message": "This request could not be executed in time."}
            errors.append(told)
            continue
        asked = Asked(item["url"], {}, item["body"], 0)
        told["response"] = {"status_code": said.status, "request_id": "r", "body": openai_body(asked, said)}
        (entries if said.status == 200 else errors).append(told)
    name = f"batch_{len(models.batches.made)}"
    models.batches.files |= {f"{name}-out": _lines(entries), f"{name}-err": _lines(errors)}
    models.batches.made[name] = {
        "id": name,
        "object": "batch",
        "status": "in_progress",
        "metadata": wanted["metadata"],
        "output_file_id": f"{name}-out" if entries else None,
        "error_file_id": f"{name}-err" if errors else None,
    }
    return models.batches.made[name]


def make_anthropic_batch(models: HostedModels, wanted: Json) -> Json:
    entries: list[Json] = []
    for item in wanted["requests"]:
        said = _answered(models, "/v1/messages", item["params"])
        body = anthropic_body(Asked("/v1/messages", {}, item["params"], 0), said)
        result: Json = {"type": "expired"} if said.is_expired else {"type": "succeeded", "message": body}
        if said.status != 200:
            result = {"type": "errored", "error": body}
        entries.append({"custom_id": item["custom_id"], "result": result})
    name = f"msgbatch_{len(models.batches.made)}"
    models.batches.files[name] = _lines(entries)
    counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
    models.batches.made[name] = {
        "id": name,
        "type": "message_batch",
        "processing_status": "in_progress",
        "request_counts": {**counts, "processing": len(entries)},
        "results_url": None,
    }
    return models.batches.made[name]


def look_at_batches(models: HostedModels, path: str) -> bytes | None:
    """What a GET is answered; None for what is not there."""
    if path == "/version":  # as vLLM tells it
        return b'{"version": "0.19.1"}'
    batches, (place, _, query) = models.batches, path.partition("?")
    name = place.rpartition("/")[2]
    if place in ("/v1/batches", "/v1/messages/batches"):
        assert "limit=" in query
        return json.dumps({"data": list(batches.made.values())[::-1], "has_more": False}).encode()
    if place.startswith("/v1/files/") and name == "content":
        return batches.files[place.split("/")[3]]
    if place.startswith("/v1/messages/batches/") and name == "results":
        return batches.files[place.split("/")[4]]
    if name not in batches.made:
        return None
    made = batches.made[name]
    if batches.is_over(name):
        made["status" if "status" in made else "processing_status"] = "completed" if "status" in made else "ended"
    return json.dumps(made).encode()


def file_in(form: bytes, content_type: str) -> bytes:
    """The file of a multipart form."""
    boundary = content_type.partition("boundary=")[2].encode()
    part = next(part for part in form.split(b"--" + boundary) if b'name="file"' in part)
    return part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")


_MAKERS = {"/v1/batches": make_openai_batch, "/v1/messages/batches": make_anthropic_batch}


def handler(models: HostedModels) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms for its headers to be acknowledged

        def do_GET(self) -> None:
            content = look_at_batches(models, self.path)
            return self._send(404 if content is None else 200, content or b"{}", {})

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/files":
                name = f"file-{len(models.batches.files)}"
                models.batches.files[name] = file_in(content, self.headers["Content-Type"])
                return self._send(200, json.dumps({"id": name, "object": "file"}).encode(), {})
            if self.path not in (*_MAKERS, *_BODIES):
                return self._send(404, b'{"error": {"message": "Invalid URL", "type": "invalid_request_error"}}', {})
            body = json.loads(content)
            if self.path in _MAKERS:
                return self._send(200, json.dumps(_MAKERS[self.path](models, body)).encode(), {})
            asked = models.take(self.path, dict(self.headers.items()), body)
            said = models.script(asked)
            time.sleep(said.seconds)
            models.done(asked, said)
            content = said.raw if said.raw is not None else json.dumps(_BODIES[self.path](asked, said)).encode()
            return self._send(said.status, content, said.headers)

        def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    return Handler


@contextmanager
def hosted_models(script: Script = always_yes) -> Iterator[HostedModels]:
    """The server, for as long as the block lasts."""
    models = HostedModels("", script)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(models))
    server.daemon_threads = True
    models.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield models
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(sys.argv[1])), handler(HostedModels("", always_yes))).serve_forever()
