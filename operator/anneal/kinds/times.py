"""RFC 3339 and back: how plans reckon with the times that objects carry."""

from __future__ import annotations

from datetime import UTC, datetime


def timestamp(now: datetime) -> str:
    """`now` as Kubernetes writes it: UTC, whole seconds, Z."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_since(time: str | None, now: datetime) -> float:
    """Seconds from `time` (RFC 3339) to `now`; 0 when there is no time or it cannot be read."""
    try:
        return (now - datetime.fromisoformat(time or "")).total_seconds()
    except (ValueError, TypeError):
        return 0.0
