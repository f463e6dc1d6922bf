"""A copy of the artifact in object storage or in a registry: what other clusters and other servers read.

Object storage has no rename. The manifest, which names every other file by hash, is written last: with it the copy is
whole. A copy that is there is recognised by its manifest and left alone. An image is whole with its tag (`image`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from anneal.api.artifacts import MANIFEST_FILE
from anneal.api.references import GsLocation, OciLocation, S3Location, parse
from anneal.api.runs import Access, RemotePath
from anneal_trainer.errors import UserMistake
from anneal_trainer.publish import image
from anneal_trainer.sources import Leash, gs, s3
from anneal_trainer.sources.credentials import Credentials


def mirrored(artifact: Path, mirror: RemotePath, leash: Leash | None = None) -> str:
    """Copies the folder `artifact` to where `mirror` says. Returns the URI of the copy.

    Raises UserMistake or Unavailable.
    """
    where = parse(mirror.uri)
    if isinstance(where, OciLocation):
        return image.pushed(artifact, where, mirror.access, leash or Leash())
    if isinstance(where, S3Location | GsLocation):
        return _uploaded(artifact, where, mirror.access, leash or Leash())
    raise UserMistake(
        "InvalidRun",
        f"'{mirror.uri}' is nothing that copies go to: use s3://bucket/prefix, gs://bucket/prefix or"
        " oci://registry/repository",
    )


def _uploaded(artifact: Path, where: S3Location | GsLocation, access: Access, leash: Leash) -> str:
    target = replace(where, key=f"{where.key}/{artifact.name}".lstrip("/"))
    keys = Credentials.read(access.credentials)
    if isinstance(target, GsLocation):
        folder: s3.Folder | gs.Folder = gs.connect(target, access.endpoint, keys, leash, "Output")
    else:
        folder = s3.connect(target, access.endpoint, keys, leash)
    manifest = (artifact / MANIFEST_FILE).read_bytes()
    found = folder.read(MANIFEST_FILE)
    if found is not None and found != manifest:
        raise UserMistake(
            "OutputOccupied",
            f"{target.uri} is there already, but is not what its name says: remove it or choose another"
            " output.mirror.uri",
        )
    if found is None:
        names = (p.relative_to(artifact).as_posix() for p in sorted(artifact.rglob("*")) if p.is_file())
        for name in (n for n in names if n != MANIFEST_FILE):
            folder.put(artifact / name, name)
        folder.put(artifact / MANIFEST_FILE, MANIFEST_FILE)
    return target.uri
