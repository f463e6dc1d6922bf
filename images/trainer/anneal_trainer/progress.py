"""Progress to the operator, by HTTPS, and never in the way of the work.

A report that is lost is a report that is late; the next one says all that it said. So a background thread sends the
newest report at most once in an interval, forgets those in between, and takes every failure for weather.
"""

from __future__ import annotations

import logging
import ssl
import threading
from pathlib import Path
from types import TracebackType
from urllib.request import Request, urlopen

from anneal.api.runs import ProgressReport, Reporting

_LOG = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 5.0


class Reporter:
    """Sends the newest report it was given. A context manager: at the end the last report is sent at once.

    Without `reporting` it does nothing.
    """

    def __init__(self, reporting: Reporting | None) -> None:
        self._reporting = reporting
        self._newest: ProgressReport | None = None
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._warned = False
        self._thread = threading.Thread(target=self._send_all, name="progress", daemon=True)

    def __enter__(self) -> Reporter:
        if self._reporting is not None:
            self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._reporting is None:
            return
        with self._changed:
            self._closing.set()
            self._changed.notify()
        self._thread.join(2 * _TIMEOUT_SECONDS)

    def report(self, report: ProgressReport) -> None:
        """Takes the place of a report that has not been sent yet. Returns at once."""
        if self._reporting is None:
            return
        with self._changed:
            self._newest = report
            self._changed.notify()

    def _send_all(self) -> None:
        assert self._reporting is not None
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest is not None or self._closing.is_set())
                report, self._newest = self._newest, None
            if report is None:
                return
            self._send(report, self._reporting)
            self._closing.wait(self._reporting.interval_seconds)

    def _send(self, report: ProgressReport, to: Reporting) -> None:
        """One POST. Token and certificate are read each time: the kubelet renews both under the same names."""
        try:
            token = Path(to.token_file).read_text().strip()
            tls = ssl.create_default_context(cafile=to.ca_file)
            request = Request(  # noqa: S310 - https is checked below
                to.url,
                data=report.model_dump_json(by_alias=True, exclude_none=True).encode(),
                headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
                method="POST",
            )
            if request.type != "https":
                raise ValueError(f"{to.url} is not https")
            with urlopen(request, timeout=_TIMEOUT_SECONDS, context=tls) as answer:  # noqa: S310
                answer.read()
            self._warned = False
        except (OSError, ValueError) as error:
            if not self._warned:
                _LOG.warning("progress is not being reported (%s); the work goes on", error)
            self._warned = True
