"""Times as Kubernetes writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from anneal.kinds.times import seconds_since, timestamp

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def test_a_moment_is_written_in_utc_to_the_second() -> None:
    east = NOW.astimezone(timezone(timedelta(hours=2))) + timedelta(microseconds=999)
    assert timestamp(east) == "2026-01-01T12:00:00Z"


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2026-01-01T11:59:00Z", 60.0),
        ("2026-01-01T14:01:00+02:00", -60.0),
        (None, 0.0),
        ("soon", 0.0),
        ("2026-01-01T11:00:00", 0.0),
    ],
    ids=["past", "future elsewhere", "none", "unreadable", "without a zone"],
)
def test_seconds_since(time: str | None, expected: float) -> None:
    assert seconds_since(time, NOW) == expected
