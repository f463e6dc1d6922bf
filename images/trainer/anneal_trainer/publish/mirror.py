"""A copy of the artifact in object storage: what other clusters and other servers read.

S3 has no rename. The manifest, which names every other file by hash, is written last: with it the copy is whole. A copy
that is there is recognised by its manifest and left alone.
"""

from __future__ import annotations

from pathlib import Path

from anneal.api.artifacts import MANIFEST_FILE
from anneal.api.references import S3Location, parse
from anneal.api.runs import RemotePath
from anneal_trainer.errors import UserMistake
from anneal_trainer.sources import Leash, s3
from anneal_trainer.sources.credentials import Credentials


def mirrored(artifact: Path, mirror: RemotePath, leash: Leash | None = None) -> str:
    """Copies the folder `artifact` below `mirror`. Returns the URI of the copy. Raises UserMistake or Unavailable."""
    where = parse(mirror.uri)
    if not isinstance(where, S3Location):
        raise UserMistake("InvalidRun", f"'{mirror.uri}' is not in object storage: use s3://bucket/prefix")
    target = S3Location(where.bucket, f"{where.key}/{artifact.name}".lstrip("/"))
    folder = s3.connect(target, mirror.access.endpoint, Credentials.read(mirror.access.credentials), leash or Leash())
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
