"""SIGTERM means: save and go. The kubelet sends it for a suspend, a preemption, a drained node and a deadline alike.

The handler only raises a flag. Whoever works asks for it between two pieces of work, so that nothing is ever
interrupted in the middle of a write.
"""

from __future__ import annotations

import signal
from types import FrameType


class Preemption:
    """Whether the pod has been asked to go."""

    def __init__(self) -> None:
        self.requested = False

    def listen(self) -> None:
        """From now on SIGTERM raises the flag instead of ending the process."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True

    def check(self, doing: str) -> None:
        """Raises Preempted if the pod was asked to go while `doing`, which starts again from its beginning."""
        if self.requested:
            # Here, so that listening begins before anything big is imported.
            from anneal_trainer.errors import Preempted

            raise Preempted(f"preempted while {doing}; it starts again from there")
