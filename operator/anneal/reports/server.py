"""The HTTPS endpoint itself: a report comes in, is checked, is kept, and wakes the object that it is about.

Only the leader runs it, since only the leader writes status. Every refusal is a sentence in JSON, `{"error": "…"}`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web
from pydantic import ValidationError

from anneal.api.runs import ProgressReport
from anneal.kinds.contract import Key, ReportsEndpoint
from anneal.kube.errors import KubeError
from anneal.kube.interface import Cluster
from anneal.reports.callers import Caller, Callers, Stranger
from anneal.reports.certificates import make_identity
from anneal.reports.kubeflow import UpdateStatus, to_report
from anneal.reports.limits import RateLimit
from anneal.reports.store import ProgressStore

_log = logging.getLogger(__name__)

PROGRESS_PATH = "/v1/progress"
KUBEFLOW_PATH = "/kubeflow/v1/status"
PORT = 8443
MAX_BODY_BYTES = 64 * 1024
#: How long a caller may take to send its body, in seconds.
BODY_SECONDS = 10.0
#: How long requests under way may take when the server stops, in seconds.
STOP_SECONDS = 2.0


class ReportsServer:
    """Serves the reports endpoint between `start` and `stop`."""

    def __init__(
        self,
        cluster: Cluster,
        store: ProgressStore,
        *,
        names: Sequence[str],
        audience: str,
        on_report: Callable[[Key], None],
        host: str = "0.0.0.0",
        port: int = PORT,
        limit: RateLimit | None = None,
    ) -> None:
        """`names` are the DNS names and addresses that clients call, the first of them in the endpoint's URL.

        `on_report` is told the object of every report that was kept. Port 0 is any free one.
        """
        self._store = store
        self._names = tuple(names)
        self._audience = audience
        self._on_report = on_report
        self._host = host
        self._port = port
        self._limit = limit or RateLimit()
        self._callers = Callers(cluster, audience)
        self._identity = make_identity(names)
        self._runner = web.AppRunner(
            self._application(), access_log=None, logger=_silent(), shutdown_timeout=STOP_SECONDS
        )

    @property
    def endpoint(self) -> ReportsEndpoint:
        """What pods need to know. With port 0 it is right only after `start`."""
        return ReportsEndpoint(
            url=f"https://{self._names[0]}:{self._port}{PROGRESS_PATH}",
            ca_pem=self._identity.ca_pem,
            audience=self._audience,
        )

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port, ssl_context=self._identity.context).start()
        self._port = int(self._runner.addresses[0][1])
        _log.info("Reports endpoint listens on port %d for %s.", self._port, ", ".join(self._names))

    async def stop(self) -> None:
        """Stop listening, and give requests under way a moment."""
        await self._runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_errors_as_sentences])
        application.router.add_post(PROGRESS_PATH, self._progress)
        application.router.add_post(KUBEFLOW_PATH, self._kubeflow)
        return application

    async def _progress(self, request: web.Request) -> web.Response:
        """A ProgressReport, as our own programs send it."""
        caller = await self._admit(request)
        return self._keep(caller, ProgressReport.model_validate_json(await _body(request)))

    async def _kubeflow(self, request: web.Request) -> web.Response:
        """An update as Kubeflow Trainer's status server takes it."""
        caller = await self._admit(request)
        update = UpdateStatus.model_validate_json(await _body(request))
        report = to_report(update, self._store.get(caller.owner_uid))
        return self._keep(caller, report) if report is not None else web.json_response({})

    async def _admit(self, request: web.Request) -> Caller:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        caller = await self._callers.recognise(token.strip() if scheme.lower() == "bearer" else "")
        if isinstance(caller, Stranger):
            raise _RefusalError(caller.status, caller.message)
        if not self._limit.allows(caller.pod_uid):
            raise _RefusalError(
                429, "this pod reports more than once a second; send one report in 5 s", {"Retry-After": "1"}
            )
        return caller

    def _keep(self, caller: Caller, report: ProgressReport) -> web.Response:
        self._store.put(caller.owner_uid, caller.owner, report)
        self._on_report(caller.owner)
        return web.json_response({})


class _RefusalError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


async def _body(request: web.Request) -> bytes:
    async with asyncio.timeout(BODY_SECONDS):
        return await request.read()


@web.middleware
async def _errors_as_sentences(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Every error in the one form that clients can read; what is wrong inside is logged, never told."""
    try:
        return await handler(request)
    except _RefusalError as refusal:
        return _sentence(refusal.status, str(refusal), refusal.headers)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(p) for p in first["loc"]) or "the body"
        return _sentence(422, f"the report cannot be read: {where}: {first['msg']}")
    except TimeoutError:
        return _sentence(408, f"the report did not arrive within {BODY_SECONDS:.0f} s")
    except KubeError as error:
        _log.warning("A report could not be checked: %s", error)
        return _sentence(503, "the API server cannot say now who is calling; report again later", {"Retry-After": "5"})
    except web.HTTPRequestEntityTooLarge:
        return _sentence(413, f"the report is larger than {MAX_BODY_BYTES} bytes")
    except web.HTTPException as error:
        return _sentence(error.status, f"{request.method} {request.path}: {error.reason}")
    except Exception:
        _log.exception("Defect while handling a report")
        return _sentence(500, "the operator failed on this report; its log has the details")


def _sentence(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": message}, status=status, headers=headers)


def _silent() -> logging.Logger:
    """The HTTP server's own logger: it would log headers that it cannot parse, and tokens are in headers."""
    logger = logging.getLogger(f"{__name__}.http")
    logger.disabled = True
    return logger
