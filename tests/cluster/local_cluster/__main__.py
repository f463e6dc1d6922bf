"""`python3 -m local_cluster VERB`: the cluster by hand."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from local_cluster import binary
from local_cluster.cluster import Cluster, given_kubeconfig
from local_cluster.errors import ClusterError
from local_cluster.layout import Record
from local_cluster.lifecycle import Scope
from local_cluster.paths import cache_root


def main() -> int:
    """Run one verb; a failure is one sentence and status 1."""
    arguments = _parser().parse_args()
    try:
        arguments.run(arguments)
    except ClusterError as error:
        print(f"local_cluster: {error}", file=sys.stderr)
        return 1
    return 0


def _up(arguments: argparse.Namespace) -> None:
    cluster = Cluster(arguments.name).up(arguments.scope)
    if arguments.fake_gpus is not None:
        cluster.set_fake_gpus(arguments.fake_gpus)
    print(cluster.kubeconfig)


def _down(arguments: argparse.Namespace) -> None:
    cluster = Cluster(arguments.name)
    arguments.end(cluster)


def _status(_: argparse.Namespace) -> None:
    for folder in sorted((cache_root() / "clusters").glob("*/")):
        cluster = Cluster(folder.name)
        record, parts = Record.read(cluster.layout), cluster.parts()
        print(f"{cluster.name}: {record.scope if record and parts else 'down'}")
        for name, part in parts.items():
            print(
                f"  {name}: {'running' if part['running'] else 'ended'}, {part['restarts']} restarts, log {part['log']}"
            )


def _load_image(arguments: argparse.Namespace) -> None:
    for path in arguments.paths:
        Cluster(arguments.name).load_images(path.resolve(), *arguments.images)


def _kubeconfig(arguments: argparse.Namespace) -> None:
    cluster = Cluster(arguments.name)
    given = given_kubeconfig()
    if given is None and not cluster.parts():
        raise ClusterError(f"Cluster {cluster.name} is not up; run: up --name {cluster.name}")
    print(given or cluster.kubeconfig)


def _kubectl(arguments: argparse.Namespace) -> None:
    command = Cluster(arguments.name).kubectl_command(*arguments.words)
    os.execv(command[0], command)


def _build(_: argparse.Namespace) -> None:
    print(binary.build().cluster)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="local_cluster", description="A local Kubernetes without Docker.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", default="default", help="which cluster (default: %(default)s)")

    up = verbs.add_parser("up", parents=[named], help="start or repair a cluster and print its kubeconfig")
    up.add_argument(
        "--control-plane-only",
        dest="scope",
        action="store_const",
        const=Scope.CONTROL_PLANE,
        default=Scope.WHOLE,
        help="etcd, API server and controller-manager; no pods",
    )
    up.add_argument("--fake-gpus", type=int, metavar="N", help="advertise N GPUs that nothing backs")
    up.set_defaults(run=_up)

    down = verbs.add_parser("down", parents=[named], help="end a cluster and remove what it made")
    down.add_argument(
        "--purge",
        dest="end",
        action="store_const",
        const=Cluster.purge,
        default=Cluster.down,
        help="the images in its node too",
    )
    down.set_defaults(run=_down)

    verbs.add_parser("status", help="list the clusters and their parts").set_defaults(run=_status)

    load = verbs.add_parser("load-image", parents=[named], help="bring images into a cluster's node")
    load.add_argument(
        "--image", dest="images", action="append", default=[], metavar="REF", help="only this image of the folder"
    )
    load.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="OCI layout folder, docker-archive or OCI archive"
    )
    load.set_defaults(run=_load_image)

    verbs.add_parser("kubeconfig", parents=[named], help="print the path of the kubeconfig to use").set_defaults(
        run=_kubeconfig
    )

    kubectl = verbs.add_parser("kubectl", parents=[named], help="run kubectl: kubectl [--name NAME] -- ARGUMENTS")
    kubectl.add_argument("words", nargs="*", metavar="ARGUMENTS")
    kubectl.set_defaults(run=_kubectl)

    verbs.add_parser("build", help="build the Kubernetes program and print its path").set_defaults(run=_build)
    return parser


if __name__ == "__main__":
    sys.exit(main())
