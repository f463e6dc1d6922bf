"""`python -m anneal_serving layout` (init container) and `python -m anneal_serving probe` (every few seconds).

Imports are inside the branches, since the probe must not pay for what the layout needs.
"""

from __future__ import annotations

import sys


def main(arguments: list[str]) -> int:
    if arguments == ["layout"]:
        from anneal_serving.layout import main as layout

        return layout()
    if arguments == ["probe"]:
        from anneal_serving.probe import main as probe

        return probe()
    print("usage: python -m anneal_serving layout | probe", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
