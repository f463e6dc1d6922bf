"""What the kubelet and Prometheus ask: /healthz, /readyz, /metrics.

Liveness must fail only where a restart helps: for a loop that is stuck, not for an API server that is away (then the
lease is lost and the process ends by itself).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from anneal.kube.leader import Election
from anneal.reconcile.queue import Queue

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: With work waiting, a pass must end within this time, in seconds; requests end after 30.
MAX_PASS_SECONDS = 180.0
MAX_CONTACT_SECONDS = 30.0


@dataclass
class Vitals:
    """When things last went well, by the monotonic clock; from that, what is wrong."""

    resync_seconds: float
    election: Election
    clock: Callable[[], float] = time.monotonic
    queue: Queue | None = None
    """The leader's queue; None in a standby."""
    leads_since: float = 0.0
    last_resync: float | None = None
    last_pass: float = field(default=0.0)

    def leads(self, queue: Queue) -> None:
        """Note that this process leads from now on."""
        self.queue = queue
        self.leads_since = self.last_pass = self.clock()

    def resynced(self) -> None:
        """Note that all objects were listed."""
        self.last_resync = self.clock()

    def passed(self) -> None:
        """Note that a pass has ended, however."""
        self.last_pass = self.clock()

    def sickness(self) -> str | None:
        """Why this process should be restarted, or None."""
        if self.queue is None:
            return None
        now = self.clock()
        waited = min(self.queue.oldest_age(), now - self.last_pass)
        if waited > MAX_PASS_SECONDS:
            return f"objects wait, but no pass has ended for {waited:.0f} s"
        silence = now - (self.last_resync or self.leads_since)
        if silence > 2 * self.resync_seconds + MAX_PASS_SECONDS:
            return f"the last resync succeeded {silence:.0f} s ago; one is due every {self.resync_seconds:.0f} s"
        return None

    def unreadiness(self) -> str | None:
        """Why this process cannot do its part now, or None. A standby's part is to reach the API server."""
        contact = self.election.last_contact
        if contact is None or self.clock() - contact > MAX_CONTACT_SECONDS:
            return "the API server cannot be reached"
        if self.queue is not None and self.last_resync is None:
            return "the objects have not been listed yet"
        return None


class HealthServer:
    """The HTTP endpoint."""

    def __init__(self, host: str, port: int, vitals: Vitals, metrics: Callable[[], bytes]) -> None:
        app = web.Application()
        app.router.add_get("/healthz", _answer(vitals.sickness))
        app.router.add_get("/readyz", _answer(vitals.unreadiness))
        app.router.add_get("/metrics", _metrics(metrics))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        self._host, self._port = host, port

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()


def _answer(problem: Callable[[], str | None]) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        found = problem()
        return web.Response(text=f"{found or 'ok'}\n", status=503 if found else 200)

    return handler


def _metrics(text: Callable[[], bytes]) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=text(), headers={"Content-Type": "text/plain; version=1.0.0; charset=utf-8"})

    return handler
