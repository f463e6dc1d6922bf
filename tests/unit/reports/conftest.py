"""A reports endpoint on loopback, with real TLS, before an API server in memory that holds one training pod."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support import builders
from tests.support.memory_api import MemoryApi, Object, Token

from anneal.kinds.contract import Key
from anneal.reports.limits import RateLimit
from anneal.reports.server import ReportsServer
from anneal.reports.store import ProgressStore

AUDIENCE = "anneal-reports"


@dataclass
class Endpoint:
    """A running server and what its clients need."""

    server: ReportsServer
    api: MemoryApi
    store: ProgressStore
    job: Object
    pod: Object
    ca_file: Path
    woken: list[Key] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.server.endpoint.url

    @property
    def uid(self) -> str:
        return str(self.job["metadata"]["uid"])

    def token(self, text: str, **change: str) -> str:
        """A token bound to the pod, but for what `change` says."""
        meta = self.pod["metadata"]
        bound = {"audience": AUDIENCE, "namespace": "team", "pod": meta["name"], "pod_uid": meta["uid"]}
        self.api.tokens[text] = Token(**{**bound, **change})
        return text


def training_pod(job: Object, name: str, **labels: str) -> Object:
    uid = job["metadata"]["uid"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "team",
            "labels": {"app.kubernetes.io/managed-by": "anneal", "anneal.dev/owner-uid": uid, **labels},
            "annotations": {"anneal.dev/owner": f"FineTuneJob/{job['metadata']['name']}"},
        },
        "spec": {"containers": [{"name": "fit"}]},
    }


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    api = MemoryApi()
    job = api.put(builders.fine_tune_job())
    pod = api.put(training_pod(job, "intents-v1-fit-0"))
    store, woken = ProgressStore(), []
    server = ReportsServer(
        api,
        store,
        names=["localhost", "127.0.0.1"],
        audience=AUDIENCE,
        on_report=woken.append,
        host="127.0.0.1",
        port=0,
        limit=RateLimit(burst=5),
    )
    await server.start()
    ca_file = tmp_path / "ca.crt"
    ca_file.write_text(server.endpoint.ca_pem)
    yield Endpoint(server, api, store, job, pod, ca_file, woken)
    await server.stop()
