"""The reports endpoint before a real API server: real tokens, bound to real pods, are told apart."""

from __future__ import annotations

import ssl
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.conftest import REPOSITORY, KubernetesUnderTest
from tests.support import builders

from anneal.api.runs import ProgressReport
from anneal.kinds.contract import Key
from anneal.kube.client import connect
from anneal.reports.server import ReportsServer
from anneal.reports.store import ProgressStore

pytestmark = pytest.mark.integration
AUDIENCE = "anneal-reports"
REPORT = ProgressReport(percent=42, step=21, total_steps=50)


@pytest.fixture
def namespace(control_plane: KubernetesUnderTest) -> str:
    name = f"reports-{uuid.uuid4().hex[:8]}"
    control_plane.kubectl("apply", "--server-side", "-k", str(REPOSITORY / "crds"))
    control_plane.kubectl("wait", "--for=condition=Established", "crd", "-l", "app.kubernetes.io/part-of=anneal")
    control_plane.kubectl("create", "namespace", name)
    return name


@pytest.fixture
async def endpoint(
    control_plane: KubernetesUnderTest, namespace: str
) -> AsyncIterator[tuple[ReportsServer, ProgressStore, list[Key]]]:
    client = await connect(control_plane.kubeconfig)
    store, woken = ProgressStore(), list[Key]()
    server = ReportsServer(client, store, names=["localhost"], audience=AUDIENCE, on_report=woken.append, port=0)
    await server.start()
    yield server, store, woken
    await server.stop()
    await client.close()
    control_plane.kubectl("delete", "namespace", namespace, "--wait=false")


async def test_only_the_pods_own_token_for_this_audience_is_taken(
    control_plane: KubernetesUnderTest,
    namespace: str,
    endpoint: tuple[ReportsServer, ProgressStore, list[Key]],
    tmp_path: Path,
) -> None:
    server, store, woken = endpoint
    client = await connect(control_plane.kubeconfig)
    job = builders.fine_tune_job()
    job["metadata"]["namespace"] = namespace
    uid = (await client.apply(job, manager="user"))["metadata"]["uid"]
    labels = {"app.kubernetes.io/managed-by": "anneal", "anneal.dev/owner-uid": uid}
    metadata = {"namespace": namespace, "labels": labels, "annotations": {"anneal.dev/owner": "FineTuneJob/intents-v1"}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**metadata, "name": "fit-0"},
        "spec": {"containers": [{"name": "trainer", "image": "image:1"}]},
    }
    await client.apply(pod, manager="user")
    await client.close()

    def token(*options: str) -> str:
        return control_plane.kubectl("create", "token", "default", "-n", namespace, *options).strip()

    bound = ("--bound-object-kind", "Pod", "--bound-object-name", "fit-0")
    (tmp_path / "ca.crt").write_text(server.endpoint.ca_pem)
    context = ssl.create_default_context(cafile=tmp_path / "ca.crt")

    async def post(bearer: str) -> int:
        headers = {"Authorization": f"Bearer {bearer}"}
        body = REPORT.model_dump_json(by_alias=True)
        async with (
            aiohttp.ClientSession() as session,
            session.post(server.endpoint.url, data=body, headers=headers, ssl=context) as answer,
        ):
            return answer.status

    assert await post(token("--audience", AUDIENCE)) == 403, "bound to no pod"
    assert await post(token(*bound)) == 401, "meant for the API server"
    assert await post("nonsense") == 401
    assert (len(store), woken) == (0, [])

    assert await post(token("--audience", AUDIENCE, *bound)) == 200
    assert store.get(uid) == REPORT
    assert woken == [Key("FineTuneJob", namespace, "intents-v1")]
