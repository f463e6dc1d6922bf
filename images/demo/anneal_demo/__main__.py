"""`python -m anneal_demo up` on a machine; `hub` and `ask` in the image.

Imports are inside the branches: the image has no rich and no Kubernetes client, the machine no GGUF reader.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Run the verb of the command line."""
    options = _options()
    if options.verb == "up":
        from anneal_demo.up import up

        return up()
    if options.verb == "hub":
        from anneal_demo.hub import fill

        return fill(options.to, options.rows, options.seed)
    from anneal_demo.ask import ask

    return ask(options.model, options.system, options.questions)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="anneal_demo", description="The chain from data to a served model.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("up", help="run the whole chain and show it")
    hub = verbs.add_parser("hub", help="write the base model and the data into a folder")
    hub.add_argument("--to", type=Path, required=True, help="the folder")
    hub.add_argument("--rows", type=int, default=750, help="number of chats, held-out ones included")
    hub.add_argument("--seed", type=int, default=42, help="the same seed gives the same chats")
    ask = verbs.add_parser("ask", help="print a JSON list with a model's greedy answer to each question")
    ask.add_argument("--model", type=Path, required=True, help="folder of the model")
    ask.add_argument("--system", required=True, help="system prompt")
    ask.add_argument("questions", nargs="+")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
