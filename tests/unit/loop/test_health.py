"""When a process asks to be restarted, when it says that it is ready, and what it tells Prometheus."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

import aiohttp
import pytest
from tests.support.memory_api import MemoryApi
from tests.unit.loop.toy import KEY

from anneal.api.runs import ProgressReport
from anneal.health import MAX_CONTACT_SECONDS, MAX_PASS_SECONDS, HealthServer, Vitals
from anneal.kinds.contract import Key
from anneal.kube.leader import Election
from anneal.metrics import Metrics
from anneal.reconcile.queue import Queue
from anneal.reconcile.reconciler import Outcome, Result

OTHER = Key("Evaluation", "team", "other")
REPORT = ProgressReport(
    percent=25,
    step=7,
    loss="0.5",
    tokens_per_second=1200,
    step_seconds="0.25",
    mfu="0.412",
    peak_memory_bytes=2 * 10**9,
)


@dataclass
class Time:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Process:
    time: Time = field(default_factory=Time)

    def __post_init__(self) -> None:
        self.election = Election(MemoryApi(), namespace="default", name="l", identity="a", clock=self.time)
        self.vitals = Vitals(600, self.election, clock=self.time)
        self.queue = Queue(clock=self.time)


@pytest.fixture
def process() -> Process:
    return Process()


async def test_a_standby_is_ready_while_it_reaches_the_api_server(process: Process) -> None:
    assert process.vitals.unreadiness() == "the API server cannot be reached"
    await process.election.attempt()
    assert process.vitals.unreadiness() is None
    process.time.now += MAX_CONTACT_SECONDS + 1
    assert process.vitals.unreadiness() is not None
    assert process.vitals.sickness() is None, "a restart would not help"


async def test_a_leader_is_ready_after_the_first_listing(process: Process) -> None:
    await process.election.attempt()
    process.vitals.leads(process.queue)
    assert process.vitals.unreadiness() == "the objects have not been listed yet"
    process.vitals.resynced()
    assert process.vitals.unreadiness() is None


def test_a_leader_is_sick_when_work_waits_and_no_pass_ends(process: Process) -> None:
    process.vitals.leads(process.queue)
    process.time.now += MAX_PASS_SECONDS * 2
    assert process.vitals.sickness() is None, "nothing waits"
    process.queue.add(KEY)
    process.time.now += MAX_PASS_SECONDS + 1
    assert "no pass has ended" in (process.vitals.sickness() or "")
    process.vitals.passed()
    assert process.vitals.sickness() is None


def test_a_leader_is_sick_when_resyncs_stop(process: Process) -> None:
    process.vitals.leads(process.queue)
    process.vitals.resynced()
    process.time.now += 601
    assert process.vitals.sickness() is None
    process.time.now += 1000
    assert "last resync" in (process.vitals.sickness() or "")


async def test_the_three_endpoints_answer(process: Process) -> None:
    metrics = Metrics()
    told = [
        (KEY, REPORT),
        (OTHER, ProgressReport(percent=3, loss="very low")),
    ]
    metrics.leads(process.queue, lambda: told)
    metrics.passed(KEY, Outcome(Result.OBSTRUCTED), 0.25)
    metrics.requested("apply", "Job", 201)
    metrics.requested("get", "Job", 200)
    process.queue.add(KEY)
    process.time.now += 3
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = HealthServer("127.0.0.1", port, process.vitals, metrics.text)
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            answers = {}
            for path in ("/healthz", "/readyz", "/metrics"):
                async with http.get(path) as response:
                    answers[path] = (response.status, await response.text())
    finally:
        await server.stop()
    assert answers["/healthz"] == (200, "ok\n")
    assert answers["/readyz"] == (503, "the API server cannot be reached\n")
    assert answers["/metrics"][0] == 200
    lines = answers["/metrics"][1].splitlines()
    assert 'anneal_reconcile_total{kind="FineTuneJob",result="obstructed"} 1.0' in lines
    assert 'anneal_writes_total{kind="Job",verb="apply"} 1.0' in lines
    assert 'anneal_api_requests_total{code="200",kind="Job",verb="get"} 1.0' in lines
    assert "anneal_queue_depth 1.0" in lines
    assert "anneal_queue_oldest_seconds 3.0" in lines
    assert "anneal_leader 1.0" in lines
    of = f'kind="FineTuneJob",name="{KEY.name}",namespace="{KEY.namespace}"'
    assert f"anneal_work_percent{{{of}}} 25.0" in lines
    assert f"anneal_work_step{{{of}}} 7.0" in lines
    assert f"anneal_training_loss{{{of}}} 0.5" in lines
    assert f"anneal_training_tokens_per_second{{{of}}} 1200.0" in lines
    assert f"anneal_training_step_seconds{{{of}}} 0.25" in lines
    assert f"anneal_training_mfu{{{of}}} 0.412" in lines
    assert f"anneal_training_memory_bytes{{{of}}} 2e+09" in lines
    assert [line for line in lines if line.startswith("anneal_training_loss{") and OTHER.name in line] == []
