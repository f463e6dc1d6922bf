"""The entries of a serving pod: its init container, its server, and the probe that runs every few seconds.

Imports are inside the branches: the probe must not pay for what the layout needs, and the first process of a container
never gets a SIGTERM that came before it listened.
"""

from __future__ import annotations

import os
import signal
import sys


def main(arguments: list[str]) -> int:
    """Does what the arguments say. Returns the exit code."""
    if arguments == ["layout"]:
        # 75, as every preempted run. What was laid out by then is laid out anew.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(os.EX_TEMPFAIL))
        from anneal_serving.layout import main as layout

        return layout()
    if arguments[:1] == ["run"] and len(arguments) > 1:
        from anneal_serving.first import First

        first = First()
        first.listen()
        return first.run(arguments[1:])
    if arguments == ["probe"]:
        from anneal_serving.probe import main as probe

        return probe()
    print("usage: python -m anneal_serving layout | run COMMAND | probe", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
