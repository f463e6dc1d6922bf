"""The composition root: settings -> client -> lease -> loop -> watches. Nothing else knows how things are wired.

A process first stands by, answering probes, until it holds the lease; then it leads until it is told to stop (exit
code 0) or has lost the lease or a part of itself (exit code 1, and the pod starts anew).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from anneal import handlers
from anneal.health import HealthServer, Vitals
from anneal.kinds import evaluation, finetunejob, modeldeployment
from anneal.kinds.contract import Facts, Images, Key, Kind, Planning
from anneal.kube.client import Client, connect
from anneal.kube.endpoints import lead_here
from anneal.kube.errors import KubeError
from anneal.kube.interface import Cluster
from anneal.kube.leader import Election, LeadershipLostError
from anneal.metrics import Metrics
from anneal.reconcile.queue import Queue
from anneal.reconcile.reconciler import Outcome, Reconciler
from anneal.reconcile.resync import list_all, resync
from anneal.reconcile.worker import work
from anneal.reports.server import ReportsServer
from anneal.reports.store import ProgressStore
from anneal.settings import Settings, SettingsError, load

_log = logging.getLogger("anneal")

KINDS: tuple[Kind, ...] = (finetunejob.KIND_ROW, evaluation.KIND_ROW, modeldeployment.KIND_ROW)
REPORTS_AUDIENCE = "anneal-reports"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: How long passes under way may take when the process is to stop, in seconds.
FINISH_SECONDS = 10.0
#: After this long, in seconds, a stopping process is ended whatever it still does.
EXIT_SECONDS = 18.0


class Operator:
    """One process: what it is made of, and its life."""

    def __init__(self, settings: Settings, client: Client, cluster: Cluster, metrics: Metrics) -> None:
        """`cluster` is `client`, or whatever a test puts before it; only watches go past it."""
        self._settings = settings
        self._client = client
        self._cluster = cluster
        self._metrics = metrics
        self._stop = asyncio.Event()
        self._election = Election(
            cluster, namespace=settings.pod_namespace, name=settings.lease_name, identity=settings.pod_name
        )
        self._vitals = Vitals(settings.resync_seconds, self._election)
        self._queue = Queue()
        self._progress = ProgressStore()
        self._reports = self._make_reports()
        self._reconciler = Reconciler(
            cluster,
            KINDS,
            facts=self._facts(),
            progress=self._progress,
            clock=lambda: datetime.now(UTC),
            instance=settings.pod_name,
        )

    async def run(self) -> None:
        """Stand by, lead, and end clean. Raises LeadershipLostError, and whatever ends a part of the process."""
        self._take_signals()
        health = HealthServer(self._settings.bind_address, self._settings.health_port, self._vitals, self._metrics.text)
        await health.start()
        acquiring = asyncio.create_task(self._election.acquire(), name="election")
        stopped = asyncio.create_task(self._stop.wait(), name="stop")
        await asyncio.wait({acquiring, stopped}, return_when=asyncio.FIRST_COMPLETED)
        try:
            if acquiring.done():
                acquiring.result()
                await self._lead(stopped)
        finally:
            await _cancel(acquiring, stopped)
            await health.stop()

    async def _lead(self, stopped: asyncio.Task[Any]) -> None:
        """Work until the process is to stop or a part of it ends; then end the parts in order and give up the lease."""
        self._metrics.leads(self._queue, self._progress.all)
        self._vitals.leads(self._queue)
        if self._reports is not None:
            await self._reports.start()
        lease = asyncio.create_task(self._election.hold(), name="lease")
        watching = asyncio.create_task(self._resync_and_watch(), name="watch")
        workers = [
            asyncio.create_task(work(self._queue, self._reconciler, self._passed), name=f"worker {n}")
            for n in range(self._settings.workers)
        ]
        ended, _ = await asyncio.wait({stopped, lease, watching, *workers}, return_when=asyncio.FIRST_COMPLETED)

        asyncio.get_running_loop().call_later(EXIT_SECONDS, os._exit, 1)
        self._queue.shut_down()
        if lease not in ended:  # else this process may not write any more, not even to the end of a pass
            await asyncio.wait(workers, timeout=FINISH_SECONDS)
        await _cancel(*workers, lease)
        if lease not in ended:
            with contextlib.suppress(KubeError):
                await self._election.release()
        if self._reports is not None:
            await self._reports.stop()
        self._stop.set()
        await _cancel(watching)
        for task in ended - {stopped}:
            task.result()
            raise RuntimeError(f"the task '{task.get_name()}' ended without being told to")

    async def _resync_and_watch(self) -> None:
        """List everything again and again; watch once that worked, for then the kinds are known to exist."""
        listed = asyncio.Event()

        def on_success() -> None:
            self._vitals.resynced()
            listed.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(resync(self._resync_once, self._settings.resync_seconds, on_success), name="resync")
            await listed.wait()
            await handlers.watch(
                KINDS,
                wakes=self._reconciler.interests.wakes,
                add=self._queue.add,
                credentials=self._client.credentials,
                namespaces=self._settings.namespaces,
                stop=self._stop,
                take_signals=self._take_signals,
            )

    async def _resync_once(self) -> int:
        await self._lead_reports_here()
        return await list_all(self._cluster, KINDS, self._settings.namespaces, self._queue)

    async def _lead_reports_here(self) -> None:
        """Have pods reach this process. Without it only their progress is lost."""
        if self._settings.pod_ip is None:
            return
        try:
            await lead_here(
                self._cluster,
                service=self._settings.reports_service,
                namespace=self._settings.pod_namespace,
                address=self._settings.pod_ip,
                port=self._settings.reports_port,
            )
        except KubeError as error:
            _log.warning("Pods cannot report progress for now: %s", error)

    def _make_reports(self) -> ReportsServer | None:
        """The endpoint for running pods, where they can reach this process."""
        if self._settings.pod_ip is None:
            return None
        service = f"{self._settings.reports_service}.{self._settings.pod_namespace}.svc"
        return ReportsServer(
            self._cluster,
            self._progress,
            names=(service, self._settings.pod_ip),
            audience=REPORTS_AUDIENCE,
            on_report=self._queue.add,
            host=self._settings.bind_address,
            port=self._settings.reports_port,
        )

    def _facts(self) -> Facts:
        images = Images(
            trainer=self._settings.trainer_image,
            evaluator=self._settings.evaluator_image,
            triton=self._settings.triton_image,
            vllm=self._settings.vllm_image,
        )
        endpoint = self._reports.endpoint if self._reports is not None else None
        planning = Planning(self._settings.accelerators, self._settings.prices, self._settings.currency)
        return Facts(images, endpoint, self._settings.image_pull_policy, planning, self._settings.hub_endpoint)

    def _passed(self, key: Key, outcome: Outcome, seconds: float) -> None:
        self._vitals.passed()
        self._metrics.passed(key, outcome, seconds)

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._stop.set)


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and wait for their end, whatever it is."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def run(settings: Settings, before: Callable[[Cluster], Cluster] = lambda client: client) -> None:
    """Run one operator until it is told to stop. `before` may put something before the client; tests break things so.

    Raises LeadershipLostError, and whatever ends a part of the process.
    """
    metrics = Metrics()
    client = await connect(settings.kubeconfig, metrics.requested)
    try:
        await Operator(settings, client, before(client), metrics).run()
    finally:
        await client.close()


def main() -> None:
    """The command line. Exit code 2: the configuration is wrong; 1: the process could not go on; 0: told to stop."""
    parser = argparse.ArgumentParser(prog="anneal-operator", description="The operator of Anneal.")
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings; ANNEAL_* in the environment win")
    parser.add_argument("--kubeconfig", metavar="FILE", help="cluster to serve, when not run in a pod of it")
    options = {f"ANNEAL_{name.upper()}": value for name, value in vars(parser.parse_args()).items() if value}
    try:
        settings = load({**os.environ, **options})
    except SettingsError as error:
        sys.exit(_complain(f"The configuration is wrong: {error}.", code=2))
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kopf").setLevel(max(logging.WARNING, logging.getLevelName(settings.log_level)))
    try:
        asyncio.run(run(settings))
    except (LeadershipLostError, KubeError, OSError) as error:
        sys.exit(_complain(f"The operator ends: {error}.", code=1))


def _complain(message: str, *, code: int) -> int:
    print(message, file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
