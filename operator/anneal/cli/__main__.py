"""`kubectl anneal tree` and `kubectl anneal ask`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live

from anneal.cli.ask import ask
from anneal.cli.cluster import Reader, Unreachable
from anneal.cli.tree import line, render

_SECOND = 1.0


def watch(reader: Reader, namespace: str, until: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """Show the chain of a namespace until `until` says so: a live tree on a terminal, changed lines in a log."""
    console = Console()
    shown: dict[str, str] = {}
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            objects = reader.chain(namespace)
            if console.is_terminal:
                live.update(render(objects, f"namespace {namespace}"), refresh=True)
            else:
                _print_changes(console, objects, shown)
            if until(objects):
                return objects
            time.sleep(_SECOND)


def _print_changes(console: Console, objects: list[dict[str, Any]], shown: dict[str, str]) -> None:
    for obj in objects:
        text = line(obj)
        if shown.get(obj["metadata"]["uid"]) != text:
            shown[obj["metadata"]["uid"]] = text
            console.print(text, highlight=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="kubectl-anneal", description=__doc__)
    parser.add_argument("--kubeconfig", help="default: $KUBECONFIG or ~/.kube/config")
    parser.add_argument("-n", "--namespace", default="default", help="default: default")
    verbs = parser.add_subparsers(dest="verb", required=True)
    tree = verbs.add_parser("tree", help="the chain: jobs, evaluations, deployments")
    tree.add_argument("-w", "--watch", action="store_true", help="go on until interrupted")
    question = verbs.add_parser("ask", help="ask a served model")
    question.add_argument("deployment", help="name of the ModelDeployment")
    question.add_argument("question", help="what to ask")
    question.add_argument("--system", help="system message to put before it")
    question.add_argument("--max-tokens", type=int, default=64, help="longest answer, in tokens; default: 64")
    chosen = parser.parse_args(arguments)
    try:
        reader = Reader(chosen.kubeconfig)
        if chosen.verb == "tree":
            watch(reader, chosen.namespace, until=lambda _: not chosen.watch)
        else:
            messages = [{"role": "system", "content": chosen.system}] if chosen.system else []
            messages.append({"role": "user", "content": chosen.question})
            answer = ask(reader, chosen.namespace, chosen.deployment, messages, chosen.max_tokens)
            sys.stdout.write(answer + "\n")
    except Unreachable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
