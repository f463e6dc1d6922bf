"""Progress to the operator: lossy by design, so nothing here can fail or delay what is told of."""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
import urllib.request
from pathlib import Path

from anneal.api.runs import ProgressReport, Reporting

POST_SECONDS = 5.0


class Progress:
    """Counts answers and tells the operator, at most once in `interval_seconds` and once at the end."""

    def __init__(self, reporting: Reporting | None, already: int, total: int) -> None:
        self._reporting = reporting
        self._already, self._total = already, total
        self._done = already
        self._started = time.monotonic()

    def advance(self) -> None:
        """One more question was answered, in whichever way."""
        self._done += 1

    def report(self) -> ProgressReport:
        fresh, left = self._done - self._already, self._total - self._done
        spent = time.monotonic() - self._started
        return ProgressReport(
            percent=100 * self._done // self._total if self._total else 100,
            eta_seconds=round(spent / fresh * left) if fresh else None,
            step=self._done,
            total_steps=self._total,
        )

    async def tell_until_cancelled(self) -> None:
        """Reports whenever something changed; ends by being cancelled."""
        if self._reporting is None:
            return
        told = -1
        while True:
            if self._done != told:
                told = self._done
                await asyncio.to_thread(_post, self._reporting, self.report())
            await asyncio.sleep(self._reporting.interval_seconds)

    async def tell(self) -> None:
        """The last report."""
        if self._reporting is not None:
            await asyncio.to_thread(_post, self._reporting, self.report())


def _post(reporting: Reporting, report: ProgressReport) -> None:
    """Token and CA are read anew: the kubelet rotates the one, a new leader the other."""
    try:
        token = Path(reporting.token_file).read_text(encoding="utf-8").strip()
        request = urllib.request.Request(  # noqa: S310 - the URL comes from the operator
            reporting.url,
            data=report.model_dump_json(by_alias=True, exclude_none=True).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            method="POST",
        )
        context = ssl.create_default_context(cafile=reporting.ca_file)
        with urllib.request.urlopen(request, timeout=POST_SECONDS, context=context):  # noqa: S310
            pass
    except (OSError, ValueError) as error:
        print(f"progress was not delivered, which is harmless: {error}", file=sys.stderr)
