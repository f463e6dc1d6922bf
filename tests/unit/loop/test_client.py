"""The client against an HTTP server that answers as the API server does: what is sent, and what faults become."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import Configuration

from anneal.kube.client import Client, connect, error_of
from anneal.kube.errors import ConflictError, KubeError, NotFoundError, RefusedError, UnavailableError


class Server:
    """Answers requests from a list and remembers them."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.observed: list[tuple[str, str, int]] = []

    async def answer(self, request: web.Request) -> web.Response:
        text = await request.text()
        headers = {"Content-Type": request.headers.get("Content-Type", "")}
        self.requests.append((request.method, request.path, dict(request.query) | headers, text))
        status, body = self.answers.pop(0)
        return web.json_response(body, status=status)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    async with TestServer(app) as http:
        made = Client(
            Configuration(host=str(http.make_url("")).rstrip("/")), lambda *seen: server.observed.append(seen)
        )
        yield made
        await made.close()


async def test_a_list_is_read_page_by_page_and_each_item_gets_its_kind(server: Server, client: Client) -> None:
    server.answers = [
        (200, {"metadata": {"continue": "a+b="}, "items": [{"metadata": {"name": "1"}}]}),
        (200, {"metadata": {}, "items": [{"metadata": {"name": "2"}}]}),
    ]
    found = await client.list("batch/v1", "Job", "team", {"x": "y"})
    assert [(o["apiVersion"], o["kind"], o["metadata"]["name"]) for o in found] == [
        ("batch/v1", "Job", "1"),
        ("batch/v1", "Job", "2"),
    ]
    assert [r[1] for r in server.requests] == ["/apis/batch/v1/namespaces/team/jobs"] * 2
    assert server.requests[0][2]["labelSelector"] == "x=y"
    assert server.requests[1][2]["continue"] == "a+b="
    assert server.observed == [("list", "Job", 200)] * 2


async def test_a_list_of_all_namespaces_has_no_namespace_in_its_path(server: Server, client: Client) -> None:
    server.answers = [(200, {"metadata": {}, "items": []})]
    assert await client.list("v1", "Pod", None) == []
    assert server.requests[0][1] == "/api/v1/pods"


async def test_apply_is_a_forced_server_side_apply_to_the_right_door(server: Server, client: Client) -> None:
    obj = {"apiVersion": "anneal.dev/v1alpha1", "kind": "Evaluation", "metadata": {"name": "e", "namespace": "team"}}
    server.answers = [(200, obj)]
    assert await client.apply(obj, manager="m", subresource="status") == obj
    method, path, query, body = server.requests[0]
    assert (method, path) == ("PATCH", "/apis/anneal.dev/v1alpha1/namespaces/team/evaluations/e/status")
    assert query == {"fieldManager": "m", "force": "true", "Content-Type": "application/apply-patch+yaml"}
    assert json.loads(body) == obj


async def test_a_delete_says_which_uid_it_means_and_counts_what_is_gone_as_done(server: Server, client: Client) -> None:
    server.answers = [(200, {}), (404, {"message": "gone"}), (409, {"message": "another uid"})]
    for _ in range(3):
        await client.delete("v1", "ConfigMap", "team", "c", "u-1")
    assert json.loads(server.requests[0][3])["preconditions"] == {"uid": "u-1"}
    assert json.loads(server.requests[0][3])["propagationPolicy"] == "Background"
    server.answers = [(403, {"message": "not allowed"})]
    with pytest.raises(RefusedError, match="not allowed"):
        await client.delete("v1", "ConfigMap", "team", "c", "u-1")


async def test_an_absent_object_is_none(server: Server, client: Client) -> None:
    server.answers = [(404, {"message": "not found"})]
    assert await client.get("v1", "Pod", "team", "p") is None


async def test_a_cluster_wide_object_is_created_without_a_namespace(server: Server, client: Client) -> None:
    server.answers = [(201, {"status": {}})]
    await client.create({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {}})
    assert server.requests[0][:2] == ("POST", "/apis/authentication.k8s.io/v1/tokenreviews")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RefusedError),
        (401, UnavailableError),
        (403, RefusedError),
        (404, NotFoundError),
        (409, ConflictError),
        (410, UnavailableError),
        (422, RefusedError),
        (429, UnavailableError),
        (500, UnavailableError),
        (503, UnavailableError),
    ],
)
def test_every_answer_becomes_one_of_our_errors_with_the_servers_sentence(status: int, error: type[KubeError]) -> None:
    made = error_of(status, b'{"message": "the sentence"}')
    assert type(made) is error
    assert "the sentence" in str(made)


def test_an_answer_that_is_not_json_is_shown_as_it_is() -> None:
    assert "bad gateway" in str(error_of(502, b"<html>bad gateway</html>"))
    assert "502" in str(error_of(502, b""))


def test_the_servers_advice_is_kept() -> None:
    made = error_of(429, b"{}", retry_after="7")
    assert isinstance(made, UnavailableError)
    assert made.retry_after == 7.0


async def test_no_answer_is_unavailable() -> None:
    client = Client(Configuration(host="http://127.0.0.1:1"))
    try:
        with pytest.raises(UnavailableError, match="did not answer 'get Pod'"):
            await client.get("v1", "Pod", "team", "p")
    finally:
        await client.close()


async def test_a_kind_that_is_not_in_the_table_is_a_defect(client: Client) -> None:
    with pytest.raises(LookupError, match="Secret"):
        await client.get("v1", "Secret", "team", "s")


@pytest.mark.parametrize(
    "file", [lambda d: None, lambda d: d / "missing", lambda d: _broken(d)], ids=["no cluster", "no file", "broken"]
)
async def test_where_no_cluster_is_told_of_a_sentence_says_so(
    tmp_path: Path, file: Callable[[Path], Path | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(UnavailableError, match="does not tell how to reach an API server"):
        await connect(file(tmp_path))


def _broken(directory: Path) -> Path:
    path = directory / "kubeconfig"
    path.write_text("apiVersion: v1\nkind: Config\n")
    return path
