"""What fetching may do, whichever library does it: how much, how long, and where to.

Fetching is done on a tenant's word, so it is kept on a short leash. The nodes' own addresses (loopback, link-local and
with it the metadata services of clouds) are out of reach; private addresses are allowed, since an object store in the
cluster has one. The address is looked at when a socket is about to connect, by Python's own audit hook: every library
passes there, no name can answer one thing and connect to another, and no redirect gets around it.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from anneal_trainer.errors import UserMistake


class ForbiddenAddress(UserMistake):
    """A connection to an address that nothing is fetched from."""

    def __init__(self, address: str) -> None:
        super().__init__(
            "SourceNotAllowed", f"it leads to {address}, an address of the node itself, from which nothing is fetched"
        )
        self.address = address


def is_node_address(address: str) -> bool:
    """Whether an IP address belongs to the node or its metadata service rather than to a server of data."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast or ip in _METADATA


#: The metadata services that are not link-local: IPv6 on AWS and GCP, Alibaba, Azure's wire server.
_METADATA = frozenset(
    ipaddress.ip_address(a) for a in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16")
)


@dataclass(frozen=True)
class Leash:
    """What fetching may do: bytes of a data file, seconds of one wait, which addresses."""

    max_bytes: int = 1024**3
    timeout_seconds: float = 60.0
    is_forbidden: Callable[[str], bool] = is_node_address

    @contextmanager
    def held(self) -> Iterator[None]:
        """For as long as the block lasts, no socket of this process connects to a forbidden address."""
        before, _RULE.current = _RULE.current, self
        if not _RULE.installed:
            sys.addaudithook(_on_event)
            _RULE.installed = True
        try:
            yield
        finally:
            _RULE.current = before


@dataclass
class _Rule:
    """The leash that holds now, for all threads: libraries download in threads of their own."""

    current: Leash | None = None
    installed: bool = field(default=False)


_RULE = _Rule()


def _on_event(event: str, arguments: tuple[object, ...]) -> None:
    if event != "socket.connect" or _RULE.current is None:
        return
    address = arguments[1]
    if not isinstance(address, tuple):
        return  # a Unix socket
    host = str(address[0])
    try:
        forbidden = _RULE.current.is_forbidden(host)
    except ValueError:  # a name, that the C library would look up unseen
        forbidden = True
    if forbidden:
        raise ForbiddenAddress(host)


def forbidden_address_in(error: BaseException | None) -> ForbiddenAddress | None:
    """The refusal that a library wrapped in errors of its own, if that is what happened."""
    while error is not None and not isinstance(error, ForbiddenAddress):
        error = error.__cause__ or error.__context__
    return error
