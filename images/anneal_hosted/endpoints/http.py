"""One request to somebody's HTTP API, and what its status means: the same for every wire protocol.

What waiting cures (429, 5xx, a lost connection) is told from what only the user can put right (a refused key, an
unknown model, an empty account), which ends the run at once instead of failing every row, and from a question that is
not taken. Redirects are not followed: the key would go along.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from anneal_hosted.endpoints.endpoint import AwayError, RefusedError
from anneal_hosted.errors import ENDPOINT_UNUSABLE, KEY_REFUSED, QUOTA_EXHAUSTED, RunError, mistake

#: Larger bodies are cut, and then cannot be read: no answer of text has so many bytes.
MAX_BODY_BYTES = 8 * 1024 * 1024
_SHOWN = 300
#: Codes under which a 429 means that the account is empty: waiting does not fill it.
_ACCOUNT_IS_EMPTY = ("insufficient_quota", "billing_not_active", "billing_hard_limit_reached")


@dataclass(frozen=True)
class Caller:
    """Calls one hosted API. The key is in `headers`; `key` is only to keep it out of messages."""

    session: aiohttp.ClientSession
    name: str
    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    key: str | None = field(repr=False)

    @property
    def where(self) -> str:
        return f"Hosted model {self.name} at {self.base_url}"

    async def send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        form: aiohttp.FormData | None = None,
        most: int = MAX_BODY_BYTES,
    ) -> bytes:
        """The body of a 200, of which at most `most` bytes. Raises AwayError, RefusedError, RunError."""
        url = self.base_url.rstrip("/") + path
        try:
            async with self.session.request(
                method, url, json=body, data=form, headers=self.headers, allow_redirects=False
            ) as response:
                content = await _bounded(response, most)
                if response.status == 200:
                    return content
                raise self._trouble(response, self._said(content))
        except (aiohttp.ClientError, ConnectionError) as error:
            is_sent = not isinstance(error, aiohttp.ClientConnectorError)
            raise AwayError(f"{self.where}: {type(error).__name__}: {error}", may_be_paid=is_sent) from error

    def _trouble(self, response: aiohttp.ClientResponse, said: str) -> Exception:
        status, where = response.status, f"{self.where} answered HTTP {response.status}"
        if status in (401, 403):
            advice = "put a key that may use this model into the Secret, then create the object again"
            return mistake(KEY_REFUSED, f"{where} to the key of its secretRef: {said}; {advice}.")
        if status == 402 or (status == 429 and any(code in said for code in _ACCOUNT_IS_EMPTY)):
            return mistake(QUOTA_EXHAUSTED, f"{where}: {said}. The account has no credit; waiting does not cure that.")
        if status == 404 or 300 <= status < 400:
            return self._unusable(f"{where}: {said}")
        if status in (408, 409, 425, 429) or status >= 500:
            return AwayError(f"{where}: {said}", retry_after=_retry_after(response.headers))
        return RefusedError(f"HTTP {status}: {said}")

    def _unusable(self, what: str) -> RunError:
        advice = "check its baseUrl and model, then create the object again"
        return mistake(ENDPOINT_UNUSABLE, f"{what}; {advice}.")

    def _said(self, content: bytes) -> str:
        """The endpoint's own words, bounded, on one line, without the key."""
        text = " ".join(_message_in(content).split())
        if self.key:
            text = text.replace(self.key, "***")
        return text[:_SHOWN] or "it gives no reason"


async def _bounded(response: aiohttp.ClientResponse, most: int) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) >= most:
            break
    return bytes(content[:most])


def _message_in(content: bytes) -> str:
    """The message in an error of OpenAI, Anthropic or vLLM, with its code; the text itself where it is none of them."""
    try:
        document = json.loads(content)
        error = document.get("error", document)
        known = [str(error[k]) for k in ("message", "detail", "code", "type") if error.get(k)]
        return ", ".join(known) or content.decode(errors="replace")
    except (ValueError, AttributeError, RecursionError):
        return content.decode(errors="replace")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the endpoint asks to wait: a number or a date (RFC 9110, 10.2.3). None when it does not say."""
    value = headers.get("Retry-After", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
