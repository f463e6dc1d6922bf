"""Errors of the API server, as ours. `client` maps every foreign error to one of these; nothing else is raised there.

KubeError
├── NotFoundError       404: the object, its namespace or its kind is gone
├── ConflictError       409: another uid, another owner of a field, a stale resourceVersion
├── RefusedError        400, 403, 405, 413, 422: the same request will be refused again
└── UnavailableError    429, 5xx, timeouts, broken connections: the same request may work later
"""

from __future__ import annotations


class KubeError(Exception):
    """The API server did not do what was asked."""


class NotFoundError(KubeError):
    """The object does not exist."""


class ConflictError(KubeError):
    """The object is not what the request took it for."""


class RefusedError(KubeError):
    """The request is refused and would be refused again; the message is the server's own sentence."""


class UnavailableError(KubeError):
    """The API server cannot answer now. `retry_after` is its own advice, in seconds."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
