"""The operator as real processes with its real rights, against a real API server with its controllers.

No kubelet runs: pods are ended by hand, with the answers that the programs in them would give.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import REPOSITORY, KubernetesUnderTest
from tests.support import builders
from tests.support.mortal_operator import LIFE

from anneal.api.conditions import is_true
from anneal.kinds.children import MANAGED_BY, MANAGER, ROLE
from anneal.kube.client import Client, connect
from anneal.kube.interface import Object
from anneal.kube.leader import LEASE_SECONDS, RETRY_SECONDS

pytestmark = pytest.mark.integration
OPERATORS = "anneal-system"
#: How long a Python process may take to start on a busy machine, in seconds.
START_SECONDS = 60.0
MEBIBYTE = 1024 * 1024


@dataclass
class Operator:
    """One process and its endpoint."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def metrics(self) -> dict[str, float]:
        """Every metric that it tells, by its name with its labels; empty while it cannot be asked."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except (urllib.error.URLError, OSError):
            return {}
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def writes(self) -> float:
        """Writes so far, those of its lease left out."""
        found = self.metrics()
        return sum(v for n, v in found.items() if n.startswith("anneal_writes_total") and "Lease" not in n)

    def leads(self) -> bool:
        return self.metrics().get("anneal_leader") == 1.0

    def end(self) -> int:
        """SIGTERM; its exit code. Raises TimeoutExpired when the pod would have been killed."""
        self.process.terminate()
        return self.process.wait(timeout=20)


@dataclass
class Bench:
    """A cluster with the CRDs and the operator's rights, and operators that die with the test."""

    kubernetes: KubernetesUnderTest
    kubeconfig: Path
    directory: Path
    started: list[Operator] = field(default_factory=list)

    def start(self, name: str, dies_after: int | None = None) -> Operator:
        """A process of that name; with `dies_after`, one that is killed at its n-th write."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{REPOSITORY / 'operator'}:{REPOSITORY}",
            "ANNEAL_KUBECONFIG": str(self.kubeconfig),
            "ANNEAL_TRAINER_IMAGE": "trainer:test",
            "ANNEAL_EVALUATOR_IMAGE": "evaluator:test",
            "ANNEAL_TRITON_IMAGE": "triton:test",
            "ANNEAL_VLLM_IMAGE": "vllm:test",
            "ANNEAL_BIND_ADDRESS": "127.0.0.1",
            "ANNEAL_HEALTH_PORT": str(port),
            "POD_NAME": name,
        }
        module = "anneal"
        if dies_after is not None:
            module, environment[LIFE] = "tests.support.mortal_operator", str(dies_after)
        log = self.directory / f"{len(self.started)}-{name}.log"
        with log.open("wb") as output:
            command = [sys.executable, "-m", module]
            process = subprocess.Popen(command, env=environment, cwd=self.directory, stdout=output, stderr=output)
        self.started.append(Operator(process, port, log))
        return self.started[-1]

    def kill_all(self) -> None:
        for operator in self.started:
            operator.process.kill()
            operator.process.wait()


@pytest.fixture(scope="module")
def rights(control_plane: KubernetesUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig with the operator's own service account, bound to the roles that are installed."""
    control_plane.kubectl("apply", "--server-side", "-k", str(REPOSITORY / "crds"))
    control_plane.kubectl("wait", "--for=condition=Established", "crd", "-l", "app.kubernetes.io/part-of=anneal")
    if control_plane.try_kubectl("get", "namespace", OPERATORS).returncode != 0:
        control_plane.kubectl("create", "namespace", OPERATORS)
    control_plane.kubectl("apply", "-n", OPERATORS, "-f", str(REPOSITORY / "manifests" / "base" / "rbac.yaml"))
    token = control_plane.kubectl("create", "token", "anneal-operator", "-n", OPERATORS, "--duration", "2h").strip()
    config = yaml.safe_load(control_plane.kubectl("config", "view", "--raw", "--minify", "--flatten"))
    config["users"][0]["user"] = {"token": token}
    file = tmp_path_factory.mktemp("rights") / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.fixture
def bench(control_plane: KubernetesUnderTest, rights: Path, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(control_plane, rights, tmp_path)
    yield made
    made.kill_all()
    control_plane.kubectl("delete", "lease", "anneal-operator", "-n", OPERATORS, "--ignore-not-found")


@dataclass
class Tenant:
    """A user's namespace, and the kubelet's part played by hand."""

    client: Client
    namespace: str

    async def put(self, obj: dict[str, Any]) -> None:
        await self.client.apply({**obj, "metadata": {**obj["metadata"], "namespace": self.namespace}}, manager="user")

    async def get(self, kind: str, name: str) -> Object:
        found = await self.client.get("anneal.dev/v1alpha1", kind, self.namespace, name)
        assert found is not None
        return found

    async def pods(self) -> list[Object]:
        return await self.client.list("v1", "Pod", self.namespace, {MANAGED_BY: MANAGER})

    async def let_pods_work(self) -> None:
        """Have every pod do what it is for, as far as its status tells: Jobs' pods end, Deployments' are ready."""
        for pod in await self.pods():
            if pod.get("status", {}).get("phase") != "Pending":
                continue
            volumes = (v["configMap"]["name"] for v in pod["spec"]["volumes"] if "configMap" in v)
            config = await self.client.get("v1", "ConfigMap", self.namespace, next(volumes))
            assert config is not None
            run = json.loads(config["data"]["run.json"])
            status = _serving(pod) if run["role"] == "serve" else _ended(pod, builders.succeeded(run))
            identity = {m: pod["metadata"][m] for m in ("name", "namespace", "uid")}
            await self.client.apply(
                {"apiVersion": "v1", "kind": "Pod", "metadata": identity, "status": status},
                manager="kubelet",
                subresource="status",
            )


def _container(pod: Object, **status: Any) -> list[dict[str, Any]]:
    name = pod["spec"]["containers"][0]["name"]
    return [{"name": name, "image": "i", "imageID": "i", "restartCount": 0, "ready": False, **status}]


def _ended(pod: Object, message: str) -> dict[str, Any]:
    moment = pod["metadata"]["creationTimestamp"]
    ended = {"exitCode": 0, "reason": "Completed", "message": message, "startedAt": moment, "finishedAt": moment}
    return {"phase": "Succeeded", "containerStatuses": _container(pod, state={"terminated": ended})}


def _serving(pod: Object) -> dict[str, Any]:
    moment = pod["metadata"]["creationTimestamp"]
    running = _container(pod, ready=True, started=True, state={"running": {"startedAt": moment}})
    conditions = [{"type": t, "status": "True", "lastTransitionTime": moment} for t in ("Ready", "ContainersReady")]
    return {"phase": "Running", "startTime": moment, "conditions": conditions, "containerStatuses": running}


@pytest.fixture
async def tenant(control_plane: KubernetesUnderTest, rights: Path) -> AsyncIterator[Tenant]:
    namespace = f"loop-{uuid.uuid4().hex[:8]}"
    control_plane.kubectl("create", "namespace", namespace)
    client = await connect(control_plane.kubeconfig)
    made = Tenant(client, namespace)
    for name in ("hub", "models"):
        await made.put(builders.claim(name))
    yield made
    await client.close()
    control_plane.kubectl("delete", "namespace", namespace, "--wait=false")


async def eventually(is_so: Callable[[], Awaitable[bool] | bool], seconds: float, what: str) -> float:
    """Wait until `is_so`; how long it took, in seconds."""
    started = time.monotonic()
    while True:
        answer = is_so()
        if answer if isinstance(answer, bool) else await answer:
            return time.monotonic() - started
        assert time.monotonic() - started < seconds, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(0.3)


async def test_a_leader_that_goes_is_followed_at_once_and_one_that_dies_after_its_lease(bench: Bench) -> None:
    first, second = bench.start("first"), bench.start("second")
    await eventually(lambda: first.leads() or second.leads(), START_SECONDS, "one leads")
    await eventually(lambda: bool(first.metrics() and second.metrics()), START_SECONDS, "both answer")
    leader, standby = (first, second) if first.leads() else (second, first)
    assert not standby.leads()

    assert leader.end() == 0, leader.log.read_text()
    await eventually(standby.leads, RETRY_SECONDS + 3, "the standby leads after a clean end")

    third = bench.start("third")
    await eventually(lambda: bool(third.metrics()), START_SECONDS, "a new standby answers")
    await asyncio.sleep(2 * RETRY_SECONDS)
    standby.process.kill()
    await eventually(third.leads, LEASE_SECONDS + 2 * RETRY_SECONDS + 3, "the standby leads after a death")
    assert third.end() == 0, third.log.read_text()


async def test_the_whole_chain_converges_and_then_nothing_is_written(bench: Bench, tenant: Tenant) -> None:
    operator = bench.start("operator")
    for obj in (builders.fine_tune_job(), builders.evaluation(), builders.model_deployment()):
        await tenant.put(obj)

    async def is_served() -> bool:
        await tenant.let_pods_work()
        return is_true(await tenant.get("ModelDeployment", "intents"), "Ready")

    await eventually(is_served, 180, "the model is served")
    assert is_true(await tenant.get("FineTuneJob", "intents-v1"), "Complete")
    assert (await tenant.get("Evaluation", "intents-v1"))["status"]["verdict"] == "Passed"

    await asyncio.sleep(5)
    before, passes = operator.writes(), _passes(operator)
    await asyncio.sleep(20)
    assert operator.writes() == before
    assert _passes(operator) == passes, "no pass without a reason"
    # However often it looks again, there is nothing to write.
    for kind, name in (("finetunejob", "intents-v1"), ("evaluation", "intents-v1"), ("modeldeployment", "intents")):
        bench.kubernetes.kubectl("annotate", kind, name, "-n", tenant.namespace, "looked-at=again")
    await eventually(lambda: _passes(operator) >= passes + 3, 10, "all are looked at again")
    await asyncio.sleep(1)
    assert operator.writes() == before
    assert operator.metrics()["process_resident_memory_bytes"] < 200 * MEBIBYTE
    assert operator.end() == 0, operator.log.read_text()
    assert "refuses the operator" not in operator.log.read_text(), "its rights are enough"


def _passes(operator: Operator) -> float:
    return sum(v for n, v in operator.metrics().items() if n.startswith("anneal_reconcile_total"))


async def test_killed_after_every_write_it_makes_everything_once(bench: Bench, tenant: Tenant) -> None:
    await tenant.put(builders.fine_tune_job())
    lives = 0

    async def is_prepared() -> bool:
        job = await tenant.get("FineTuneJob", "intents-v1")
        return is_true(job, "DataReady")

    async def has_died(operator: Operator) -> bool:
        await tenant.let_pods_work()
        return operator.process.poll() is not None

    while not await is_prepared():
        lives += 1
        assert lives < 30, "every life gets one write further"
        operator = bench.start("mortal", dies_after=1)
        await eventually(functools.partial(has_died, operator), START_SECONDS, "a write, and death after it")
        assert operator.process.returncode == -9, operator.log.read_text()
    assert lives >= 5, "claim, document, Job, status before and after"

    last = bench.start("mortal")

    async def is_complete() -> bool:
        await tenant.let_pods_work()
        return is_true(await tenant.get("FineTuneJob", "intents-v1"), "Complete")

    await eventually(is_complete, START_SECONDS + 60, "the last life ends the work")
    assert last.end() == 0
    pods = collections.Counter(p["metadata"]["labels"][ROLE] for p in await tenant.pods())
    assert set(pods.values()) <= {1}, f"one pod for each step: {pods}"
    for api_version, kind in (("batch/v1", "Job"), ("v1", "ConfigMap"), ("v1", "PersistentVolumeClaim")):
        children = await tenant.client.list(api_version, kind, tenant.namespace, {MANAGED_BY: MANAGER})
        roles = collections.Counter(c["metadata"]["labels"][ROLE] for c in children)
        assert set(roles.values()) <= {1}, f"one {kind} for each role: {roles}"


async def test_what_the_api_server_refuses_reaches_status_and_goes_on_when_it_may(bench: Bench, tenant: Tenant) -> None:
    bench.kubernetes.kubectl("create", "quota", "none", "--hard=count/jobs.batch=0", "-n", tenant.namespace)
    await tenant.put(builders.fine_tune_job())
    bench.start("operator")

    async def is_stalled() -> bool:
        return is_true(await tenant.get("FineTuneJob", "intents-v1"), "Stalled")

    await eventually(is_stalled, START_SECONDS, "the refusal is told")
    status = (await tenant.get("FineTuneJob", "intents-v1"))["status"]
    assert status["reason"] == "ApplyRefused"
    assert "exceeded quota: none" in status["message"]
    bench.kubernetes.kubectl("delete", "quota", "none", "-n", tenant.namespace)

    async def has_a_pod() -> bool:
        return bool(await tenant.pods())

    await eventually(has_a_pod, 60, "it goes on")
    await eventually(lambda: _not(is_stalled()), 10, "the refusal is forgotten")


async def _not(answer: Awaitable[bool]) -> bool:
    return not await answer
