"""A headless Chromium, driven by its own DevTools protocol: what it shows, how wide, and what it complains about."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

PACKAGE = PROGRAM = "chromium-headless-shell"
_PATIENCE = 60.0


@dataclass
class Tab:
    """One page. `complaints` are errors, warnings and refusals that the browser told; `requests` the URLs it asked."""

    socket: aiohttp.ClientWebSocketResponse
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a command. Raises RuntimeError when the browser refuses it."""
        number = next(self._numbers)
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        while (told := await self._next()).get("id") != number:
            pass
        if "error" in told:
            raise RuntimeError(f"{method}: {told['error']}")
        return dict(told["result"])

    async def _next(self) -> dict[str, Any]:
        told: dict[str, Any] = await self.socket.receive_json(timeout=_PATIENCE)
        parameters = told.get("params", {})
        if told.get("method") == "Log.entryAdded":
            self.complaints.append(str(parameters["entry"]["text"]))
        elif told.get("method") in (
            "Runtime.exceptionThrown",
            "Runtime.consoleAPICalled",
            "Page.javascriptDialogOpening",
        ):
            self.complaints.append(f"{told['method']}: {parameters}")
        elif told.get("method") == "Network.requestWillBeSent":
            self.requests.append(str(parameters["request"]["url"]))
        return told

    async def open(self, path: Path, *, width: int, height: int, scheme: str) -> None:
        """Shows a file at this width, in CSS pixels, in the scheme 'light' or 'dark'."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=path.as_uri())
        while (await self._next()).get("method") != "Page.loadEventFired":
            pass

    async def evaluate(self, expression: str) -> Any:
        """A value that the page's own JavaScript engine computes, from outside of the page's policy."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def screenshot(self) -> bytes:
        """The whole page, however long, as PNG."""
        shown = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shown["data"])


@contextlib.asynccontextmanager
async def browser(profile: Path) -> AsyncIterator[Tab]:
    """A browser of its own profile, with one tab; ended with the block."""
    process = await asyncio.create_subprocess_exec(
        PROGRAM,
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "--no-sandbox",  # tests run as root, for whom Chromium has no sandbox
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,  # the program is a family: they end together
    )
    try:
        port = await asyncio.to_thread(_port, profile / "DevToolsActivePort")
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            async with session.get("/json/list") as answer:
                targets = await answer.json(content_type=None)
            url = next(t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page")
            async with session.ws_connect(url, max_msg_size=64 * 2**20) as socket:
                yield Tab(socket)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _port(file: Path) -> int:
    """The port that the browser listens on, which it writes once it does."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if file.exists() and (lines := file.read_text().splitlines()):
            return int(lines[0])
        time.sleep(0.05)
    raise TimeoutError(f"{PROGRAM} did not start within {_PATIENCE:.0f} s")
