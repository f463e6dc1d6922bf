"""Where models and data are: one URI grammar for every kind, the same as KServe's.

`pvc://claim/path` is a path in a PersistentVolumeClaim of the object's own namespace; `hf://owner/name[:revision]` a
model on a Hugging Face Hub, `hf://datasets/owner/name[:revision]/path` a file of a dataset there; `s3://bucket/key` an
object (or, for a model, a folder of objects) of an S3 service, `gs://bucket/key` the same of Google Cloud Storage;
`oci://registry/repository[:tag]` an image in a container registry; `https://host/path` a file to download. Further
schemes are further members of `parse`, and nothing else in the control plane looks inside one.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from anneal.api.model import ApiModel, ObjectName, Rule

_CLAIM = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
_PATH = r"(/[A-Za-z0-9._@=+-]+)*"
_FILE = r"(/[A-Za-z0-9._@=+-]+)+"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_REVISION = r"(:[A-Za-z0-9][A-Za-z0-9._-]{0,127})?"
_PVC = rf"pvc://{_CLAIM}{_PATH}/?"
_HUB_MODEL = rf"hf://{_NAME}/{_NAME}{_REVISION}"
_HUB_FILE = rf"hf://datasets/{_NAME}/{_NAME}{_REVISION}{_FILE}"
_BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_S3_FOLDER = rf"s3://{_BUCKET}{_PATH}/?"
_S3_FILE = rf"s3://{_BUCKET}{_FILE}"
_GS_BUCKET = r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"
_GS_FOLDER = rf"gs://{_GS_BUCKET}{_PATH}/?"
_GS_FILE = rf"gs://{_GS_BUCKET}{_FILE}"
_REGISTRY = r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(:[0-9]{1,5})?"
_PART = r"[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*"
_IMAGE = rf"oci://{_REGISTRY}(/{_PART}){{1,16}}"
_TAG = r":[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_DIGEST = r"@sha256:[a-f0-9]{64}"
_HTTPS = r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?/[!-~]*"

PVC_PATTERN = rf"^{_PVC}$"
MIRROR_PATTERN = rf"^({_S3_FOLDER}|{_GS_FOLDER}|{_IMAGE}({_TAG})?)$"
COPY_PATTERN = rf"^({_S3_FOLDER}|{_GS_FOLDER}|{_IMAGE}{_DIGEST})$"
MODEL_PATTERN = rf"^({_PVC}|{_HUB_MODEL}|{_S3_FOLDER}|{_GS_FOLDER}|{_IMAGE}({_TAG})?({_DIGEST})?)$"
SOURCE_PATTERN = rf"^({_PVC}|{_HTTPS}|{_HUB_FILE}|{_S3_FILE}|{_GS_FILE}|{_IMAGE}({_TAG})?({_DIGEST})?)$"
_ANY_PATTERN = rf"^({_PVC}|{_HTTPS}|{_HUB_FILE}|{_HUB_MODEL}|{_S3_FOLDER}|{_GS_FOLDER}|{_IMAGE}({_TAG})?({_DIGEST})?)$"

PvcUri = Annotated[str, Field(pattern=PVC_PATTERN, max_length=1024)]
MirrorUri = Annotated[str, Field(pattern=MIRROR_PATTERN, max_length=1024)]
CopyUri = Annotated[str, Field(pattern=COPY_PATTERN, max_length=1024)]
ModelUri = Annotated[str, Field(pattern=MODEL_PATTERN, max_length=1024)]
SourceUri = Annotated[str, Field(pattern=SOURCE_PATTERN, max_length=2048)]
#: The URL of a service: a Hugging Face Hub, an object store, a registry or the API of a hosted model. Keys come from
#: Secrets.
Endpoint = Annotated[
    str, Field(pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$", max_length=512)
]


class LocalReference(ApiModel):
    """Another object, in the same namespace: tenants cannot reach beyond their own."""

    name: ObjectName = Field(description="Name of the object, in the same namespace.")


class SecretKeyReference(ApiModel):
    """One entry of a Secret in the same namespace. The kubelet mounts it; the operator never reads it."""

    name: ObjectName = Field(description="Name of the Secret, in the same namespace.")
    key: str = Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253, description="Key in its data.")


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


@dataclass(frozen=True)
class HubModel:
    """A model on a Hugging Face Hub, at a branch, a tag or a commit."""

    repository: str
    revision: str

    @property
    def uri(self) -> str:
        return f"hf://{self.repository}:{self.revision}"


@dataclass(frozen=True)
class HubFile:
    """One file of a dataset on a Hugging Face Hub, at a branch, a tag or a commit."""

    repository: str
    revision: str
    path: str

    @property
    def uri(self) -> str:
        return f"hf://datasets/{self.repository}:{self.revision}/{self.path}"


@dataclass(frozen=True)
class _InBucket:
    """An object, or a folder of objects. `key` has no slash at either end."""

    SCHEME: ClassVar[str]

    bucket: str
    key: str

    @property
    def uri(self) -> str:
        return f"{self.SCHEME}://{self.bucket}/{self.key}".rstrip("/")


class S3Location(_InBucket):
    """An object, or a folder of objects, of an S3 service."""

    SCHEME = "s3"


class GsLocation(_InBucket):
    """An object, or a folder of objects, of Google Cloud Storage."""

    SCHEME = "gs"


@dataclass(frozen=True)
class OciLocation:
    """An image, or a repository of images, in a container registry; `registry` is host[:port]."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def uri(self) -> str:
        tag, digest = f":{self.tag}" if self.tag else "", f"@{self.digest}" if self.digest else ""
        return f"oci://{self.registry}/{self.repository}{tag}{digest}"

    def at(self, digest: str) -> OciLocation:
        """The image with that digest in the same repository, whatever tags may come to say."""
        return OciLocation(self.registry, self.repository, digest=digest)


Location = PvcLocation | HttpsLocation | HubModel | HubFile | S3Location | GsLocation | OciLocation

#: Without a revision in its URI, a repository is taken at this branch.
DEFAULT_REVISION = "main"


def parse(uri: str) -> Location:
    """The location that a URI names. Raises ValueError, in a sentence, for a URI that is not one of ours."""
    if not re.match(_ANY_PATTERN, uri):
        raise ValueError(
            f"'{uri}' is not a supported URI: use pvc://claim/path, s3://bucket/key, gs://bucket/key,"
            " oci://registry/repository[:tag], hf://owner/name[:revision] for a model, or, for data,"
            " hf://datasets/owner/name[:revision]/file or https://host/path"
        )
    scheme, _, rest = uri.partition("://")
    if scheme == "https":
        return HttpsLocation(uri)
    if scheme == "oci":
        return _image(rest)
    if ".." in rest.split("/"):
        kept_in = {"pvc": "its claim", "hf": "its repository", "s3": "its bucket", "gs": "its bucket"}[scheme]
        raise ValueError(f"'{uri}' has '..' in its path: a location cannot leave {kept_in}")
    if scheme == "hf":
        return _hub(rest)
    first, _, path = rest.partition("/")
    path = posixpath.normpath(path) if path.strip("/") else ""
    if scheme == "pvc":
        return PvcLocation(first, path)
    return (S3Location if scheme == "s3" else GsLocation)(first, path.strip("/"))


def uri_stays_in_its_claim(name: str) -> Rule:
    """For an object whose `uri` is a PvcUri; `name` is what the message calls that field."""
    return Rule(
        "!self.uri.matches('/[.][.](/|$)')",
        lambda holder: re.search(r"/[.][.](/|$)", holder.uri) is None,
        f"{name} must not have '..' in its path: a location cannot leave its claim",
    )


def _hub(rest: str) -> HubModel | HubFile:
    if not re.match(rf"^{_HUB_FILE}$", f"hf://{rest}"):
        repository, _, revision = rest.partition(":")
        return HubModel(repository, revision or DEFAULT_REVISION)
    _, owner, named, path = rest.split("/", 3)
    name, _, revision = named.partition(":")
    return HubFile(f"{owner}/{name}", revision or DEFAULT_REVISION, posixpath.normpath(path))


def _image(rest: str) -> OciLocation:
    named, _, digest = rest.partition("@")
    registry, _, path = named.partition("/")
    repository, _, tag = path.partition(":")
    return OciLocation(registry, repository, tag or None, digest or None)
