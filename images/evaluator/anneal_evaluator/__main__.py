"""The entry. SIGTERM is listened to before the rest is imported: a container's first process never gets one else."""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    """Does what the arguments say: see `program`. Returns the exit code."""
    # 75, as every preempted run; nothing was asked yet.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(os.EX_TEMPFAIL))
    from anneal_evaluator.program import do

    return do(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
