"""The entry. SIGTERM is listened to before the rest is imported: the first process of a container never gets one else.

Linux delivers to the first process of a container only those signals that it listens to. One that came during the
imports would be lost, and the pod would train on until it is killed.
"""

from __future__ import annotations

import sys

from anneal_trainer.preemption import Preemption
from anneal_trainer.process import QuickEnd, collect_no_garbage


def main() -> int:
    """Does what the run document says. Returns the exit code."""
    preemption = Preemption()
    preemption.listen()
    collect_no_garbage()
    from anneal_trainer.program import do

    return do(preemption)


if __name__ == "__main__":
    end = QuickEnd()
    end.code = main()
    sys.exit(end.code)
