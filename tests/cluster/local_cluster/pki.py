"""Keys, certificates and tokens of one cluster, made by openssl in less than a second."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local_cluster.namespaces import run

# 30 days: a local cluster is younger than that.
_VALID = ["-days", "30"]


@dataclass(frozen=True)
class User:
    """One identity of the token file: a name and its groups."""

    name: str
    groups: tuple[str, ...]


MASTERS = "system:masters"
ADMIN = User("admin", (MASTERS,))
CONTROLLER_MANAGER = User("system:kube-controller-manager", (MASTERS,))
SCHEDULER = User("system:kube-scheduler", (MASTERS,))
PROXY = User("system:kube-proxy", (MASTERS,))
DNS = User("system:coredns", (MASTERS,))
VOLUMES = User("system:volume-provisioner", (MASTERS,))


def node_user(node: str) -> User:
    """The identity of the kubelet of `node`, as the Node authorizer wants it."""
    return User(f"system:node:{node}", ("system:nodes",))


def create_certificates(folder: Path, server_names: Sequence[str]) -> None:
    """Write ca, apiserver, kubelet-client and front-proxy-client (.crt, .key) and sa.key, sa.pub into `folder`.

    Args:
        folder: made when absent.
        server_names: subject alternative names of the API server, in openssl's form (`IP:…`, `DNS:…`).
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    ca = folder / "ca"
    run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            *_VALID,
            "-subj",
            "/CN=anneal-local-cluster",
            "-keyout",
            f"{ca}.key",
            "-out",
            f"{ca}.crt",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
        ]
    )
    server = ["subjectAltName=" + ",".join(server_names), "extendedKeyUsage=serverAuth"]
    _sign(folder / "apiserver", ca, "/CN=kube-apiserver", server)
    _sign(
        folder / "kubelet-client", ca, f"/O={MASTERS}/CN=kube-apiserver-kubelet-client", ["extendedKeyUsage=clientAuth"]
    )
    _sign(folder / "front-proxy-client", ca, "/CN=front-proxy-client", ["extendedKeyUsage=clientAuth"])
    run(["openssl", "genrsa", "-out", str(folder / "sa.key"), "2048"])
    run(["openssl", "rsa", "-in", str(folder / "sa.key"), "-pubout", "-out", str(folder / "sa.pub")])


def create_tokens(file: Path, users: Sequence[User]) -> dict[User, str]:
    """Write the API server's token file and return the token of each user."""
    tokens = {user: secrets.token_hex(16) for user in users}
    file.touch(mode=0o600)
    file.write_text(
        "".join(f'{token},{user.name},{user.name},"{",".join(user.groups)}"\n' for user, token in tokens.items())
    )
    return tokens


def _sign(target: Path, ca: Path, subject: str, extensions: Sequence[str]) -> None:
    request = run(
        [
            "openssl",
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            subject,
            "-keyout",
            f"{target}.key",
        ]
    )
    extension_file = target.with_suffix(".ext")
    extension_file.write_text("\n".join(["keyUsage=critical,digitalSignature", *extensions]) + "\n")
    run(
        [
            "openssl",
            "x509",
            "-req",
            *_VALID,
            "-CA",
            f"{ca}.crt",
            "-CAkey",
            f"{ca}.key",
            "-set_serial",
            str(secrets.randbits(63)),
            "-extfile",
            str(extension_file),
            "-out",
            f"{target}.crt",
        ],
        stdin=request,
    )
    extension_file.unlink()
