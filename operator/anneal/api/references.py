"""Where models and data are: one URI grammar for every kind, the same as KServe's.

`pvc://claim/path` is a path in a PersistentVolumeClaim of the object's own namespace; `https://host/path` is a file
to download. Further schemes are further members of `parse`, and nothing else in the control plane looks inside one.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from anneal.api.model import ApiModel, ObjectName

_CLAIM = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
_PATH = r"(/[A-Za-z0-9._@=+-]+)*"
PVC_PATTERN = rf"^pvc://{_CLAIM}{_PATH}/?$"
SOURCE_PATTERN = rf"^(pvc://{_CLAIM}{_PATH}/?|https://[A-Za-z0-9.-]+(:[0-9]{{1,5}})?/[!-~]*)$"

PvcUri = Annotated[str, Field(pattern=PVC_PATTERN, max_length=1024)]
SourceUri = Annotated[str, Field(pattern=SOURCE_PATTERN, max_length=2048)]


class LocalReference(ApiModel):
    """Another object, in the same namespace: tenants cannot reach beyond their own."""

    name: ObjectName = Field(description="Name of the object, in the same namespace.")


@dataclass(frozen=True)
class PvcLocation:
    """A path inside a claim. `path` is relative, normalised, and never leaves the claim."""

    claim: str
    path: str

    @property
    def uri(self) -> str:
        return f"pvc://{self.claim}/{self.path}".rstrip("/")

    def child(self, *parts: str) -> PvcLocation:
        return PvcLocation(self.claim, posixpath.join(self.path, *parts))

    def below(self, root: str) -> str:
        """The absolute path where this location is when the claim is mounted at `root`."""
        return posixpath.join(root, self.path) if self.path else root


@dataclass(frozen=True)
class HttpsLocation:
    """One file on a web server."""

    url: str

    @property
    def uri(self) -> str:
        return self.url


Location = PvcLocation | HttpsLocation


def parse(uri: str) -> Location:
    """The location that a URI names. Raises ValueError, in a sentence, for a URI that is not one of ours."""
    if uri.startswith("https://") and re.match(SOURCE_PATTERN, uri):
        return HttpsLocation(uri)
    if not re.match(PVC_PATTERN, uri):
        raise ValueError(f"'{uri}' is not a supported URI: use pvc://claim/path or, for data, https://host/path")
    claim, _, path = uri.removeprefix("pvc://").partition("/")
    if ".." in path.split("/"):
        raise ValueError(f"'{uri}' has '..' in its path: a location cannot leave its claim")
    return PvcLocation(claim, posixpath.normpath(path) if path.strip("/") else "")
