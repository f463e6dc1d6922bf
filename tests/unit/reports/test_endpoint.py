"""Our own programs' reports: who is heard, who is refused, and with what sentence."""

from __future__ import annotations

import json
import ssl
from typing import Any

import aiohttp
import pytest
from tests.unit.reports.conftest import Endpoint, training_pod

from anneal.api.runs import ProgressReport
from anneal.kinds.contract import Key
from anneal.kube.errors import UnavailableError
from anneal.reports.certificates import make_identity

REPORT = ProgressReport(percent=42, eta_seconds=61, step=21, total_steps=50, loss="0.5", tokens_per_second=900)


async def post(
    endpoint: Endpoint, token: str | None, body: bytes | None = None, path: str | None = None
) -> tuple[int, dict[str, Any]]:
    """(status, answer) of a report over TLS, with the endpoint's own CA as the only trusted one."""
    context = ssl.create_default_context(cafile=endpoint.ca_file)
    url = endpoint.url if path is None else endpoint.url.replace("/v1/progress", path)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    data = REPORT.model_dump_json(by_alias=True).encode() if body is None else body
    async with aiohttp.ClientSession() as session, session.post(url, data=data, headers=headers, ssl=context) as answer:
        return answer.status, await answer.json()


async def test_a_report_is_kept_and_wakes_its_object(endpoint: Endpoint) -> None:
    assert await post(endpoint, endpoint.token("good")) == (200, {})
    assert endpoint.store.get(endpoint.uid) == REPORT
    assert endpoint.woken == [Key("FineTuneJob", "team", "intents-v1")]


async def test_a_pod_is_looked_up_once_and_believed_for_a_while(endpoint: Endpoint) -> None:
    for _ in range(3):
        assert (await post(endpoint, endpoint.token("good")))[0] == 200
    assert endpoint.api.requests["create", "TokenReview"] == 1


@pytest.mark.parametrize(
    ("change", "status", "sentence"),
    [
        ({"audience": "https://kubernetes.default.svc"}, 401, "not meant for the audience 'anneal-reports'"),
        ({"pod": "nobody"}, 403, "pod 'nobody' that the token is bound to does not exist any more"),
        ({"pod_uid": "of an earlier pod"}, 403, "does not exist any more"),
        ({"namespace": "default"}, 403, "does not exist any more"),
        ({"pod": "", "pod_uid": ""}, 403, "not bound to a pod"),
    ],
)
async def test_a_token_that_is_not_a_pods_own_is_refused(
    endpoint: Endpoint, change: dict[str, str], status: int, sentence: str
) -> None:
    code, answer = await post(endpoint, endpoint.token("other", **change))
    assert (code, sentence in answer["error"]) == (status, True), answer
    assert (len(endpoint.store), endpoint.woken) == (0, [])


@pytest.mark.parametrize("token", [None, "", "never issued", "x" * 5000])
async def test_no_token_or_an_unknown_one_is_refused(endpoint: Endpoint, token: str | None) -> None:
    code, answer = await post(endpoint, token)
    assert (code, "Bearer <token>" in answer["error"] or "not meant" in answer["error"]) == (401, True), answer
    assert len(endpoint.store) == 0


async def test_a_header_that_is_too_long_is_refused_and_not_logged(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.create_default_context(cafile=endpoint.ca_file)
    headers = {"Authorization": "Bearer s3cr3t" + "x" * 9000}
    async with aiohttp.ClientSession() as session, session.post(endpoint.url, headers=headers, ssl=context) as answer:
        assert answer.status == 400
    assert "s3cr3t" not in caplog.text


async def test_a_pod_of_somebody_else_is_refused(endpoint: Endpoint) -> None:
    plain = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "team"}, "spec": {}}
    pod = endpoint.api.put(plain)
    code, answer = await post(endpoint, endpoint.token("t", pod="web", pod_uid=pod["metadata"]["uid"]))
    assert (code, answer) == (403, {"error": "pod 'web' works for no object of Anneal"})


async def test_a_pod_cannot_report_for_an_object_of_another_namespace(endpoint: Endpoint) -> None:
    """Labels are free to choose; the object that they name must be in the pod's namespace."""
    spy = training_pod(endpoint.job, "spy")
    pod = endpoint.api.put({**spy, "metadata": {**spy["metadata"], "namespace": "default"}})
    token = endpoint.token("t", namespace="default", pod="spy", pod_uid=pod["metadata"]["uid"])
    code, answer = await post(endpoint, token)
    assert (code, "works for FineTuneJob 'intents-v1', which does not exist" in answer["error"]) == (403, True)
    assert endpoint.store.get(endpoint.uid) is None


async def test_a_pod_of_an_earlier_object_of_that_name_is_refused(endpoint: Endpoint) -> None:
    pod = endpoint.api.put(training_pod(endpoint.job, "old", **{"anneal.dev/owner-uid": "of an earlier job"}))
    code, _ = await post(endpoint, endpoint.token("t", pod="old", pod_uid=pod["metadata"]["uid"]))
    assert code == 403


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"{", 422, "the report cannot be read: the body: Invalid JSON"),
        (b"{}", 422, "the report cannot be read: percent: Field required"),
        (b'{"percent": 101}', 422, "percent: Input should be less than or equal to 100"),
        (json.dumps({"percent": 1, "loss": "9" * 33}).encode(), 422, "loss: String should have at most 32"),
        (b'{"percent": 1, "x": "' + b"y" * 70_000 + b'"}', 413, "larger than 65536 bytes"),
    ],
)
async def test_a_body_that_is_no_report_is_refused(endpoint: Endpoint, body: bytes, status: int, sentence: str) -> None:
    code, answer = await post(endpoint, endpoint.token("good"), body)
    assert (code, sentence in answer["error"]) == (status, True), answer
    assert len(endpoint.store) == 0


async def test_a_pod_that_reports_too_often_is_told_so(endpoint: Endpoint) -> None:
    token = endpoint.token("good")
    codes = [(await post(endpoint, token))[0] for _ in range(7)]
    assert codes[:5] == [200] * 5
    assert 429 in codes[5:]


async def test_another_path_is_a_sentence_too(endpoint: Endpoint) -> None:
    assert await post(endpoint, endpoint.token("good"), path="/") == (404, {"error": "POST /: Not Found"})


async def test_an_api_server_that_cannot_answer_costs_one_report(endpoint: Endpoint) -> None:
    async def cannot() -> None:
        raise UnavailableError("etcd is gone")

    token = endpoint.token("good")
    well, endpoint.api.turn = endpoint.api.turn, cannot
    code, answer = await post(endpoint, token)
    assert (code, "etcd" in answer["error"]) == (503, False)
    endpoint.api.turn = well
    assert (await post(endpoint, token))[0] == 200


async def test_another_leaders_certificate_is_not_trusted(endpoint: Endpoint) -> None:
    endpoint.ca_file.write_text(make_identity(["localhost"]).ca_pem)
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await post(endpoint, endpoint.token("good"))


async def test_nothing_secret_is_logged(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await post(endpoint, endpoint.token("s3cr3t-good"))
    await post(endpoint, endpoint.token("s3cr3t-bad", audience="other"))
    await post(endpoint, "s3cr3t-unknown")
    assert "s3cr3t" not in caplog.text
