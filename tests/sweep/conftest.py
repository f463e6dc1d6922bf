"""Says at the end of a session what the sweep has tried."""

from __future__ import annotations

import pytest
from tests.sweep.ledger import Ledger

_LEDGER = Ledger()


@pytest.fixture
def ledger() -> Ledger:
    return _LEDGER


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _LEDGER.summary():
        terminalreporter.write_line(f"sweep: {_LEDGER.summary()}")
