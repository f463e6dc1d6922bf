"""What a model looks like on disk, and what its digest covers.

A digest is the sha256 of a canonical manifest: every file's path, size and sha256, plus what the model depends on. Two
directories have one digest exactly when a server started on them answers alike. Trainer, evaluator and serving all
compute it with this module, so that what is published, judged and served is provably one thing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field

from anneal.api.methods import Contents
from anneal.api.model import ApiModel, Digest

#: Lies in every artifact; names the files that its digest covers.
MANIFEST_FILE = "anneal-manifest.json"
#: Held-out rows, published beside the model files and not covered by the artifact's digest.
HELD_OUT_FILE = "evaluation/held-out.jsonl"
#: Weights of an artifact that is an adapter. One that has none of it is a whole model.
ADAPTER_WEIGHTS_FILE = "adapter_model.safetensors"
#: Files of a base model that decide what it answers. Pickled weights are not among them: they are never loaded.
BASE_MODEL_PATTERNS = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "chat_template*",
    "vocab.json",
    "merges.txt",
)
_BLOCK = 4 * 1024 * 1024


class ManifestFile(ApiModel):
    """One file of an artifact."""

    path: str = Field(max_length=512, description="Path relative to the artifact, with forward slashes.")
    size: int = Field(ge=0, description="Size in bytes.")
    sha256: str = Field(pattern=r"^[a-f0-9]{64}$", description="sha256 of the content, in hex.")


class Manifest(ApiModel):
    """What an artifact consists of and depends on."""

    files: list[ManifestFile] = Field(description="Files, sorted by path.")
    base_digest: Digest = Field(description="Digest of the base model that it was tuned from.")
    chat_template_hash: Digest = Field(description="Digest of the chat template.")

    @property
    def digest(self) -> str:
        return digest_of_json(self.to_json())

    @property
    def contents(self) -> Contents:
        """Whether the artifact needs its base, by the files that its digest covers."""
        return "Adapter" if any(f.path == ADAPTER_WEIGHTS_FILE for f in self.files) else "Model"

    @property
    def size_bytes(self) -> int:
        return sum(f.size for f in self.files)


class DigestMismatchError(ValueError):
    """A directory is not what its digest says; the message names what differs."""


def digest_of_bytes(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def digest_of_json(document: Any) -> str:
    """Digest of the canonical form: sorted keys, no white space, UTF-8."""
    return digest_of_bytes(json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


def digest_of_file(path: Path) -> str:
    """Digest of a file's content, read in blocks of 4 MiB."""
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            hasher.update(block)
    return "sha256:" + hasher.hexdigest()


def describe(directory: Path, paths: Iterable[Path]) -> list[ManifestFile]:
    """Manifest entries of `paths` below `directory`, sorted. Symbolic links are refused: they could leave it."""
    entries = []
    for path in sorted(paths):
        if path.is_symlink():
            raise ValueError(f"{path.name} is a symbolic link; a model consists of plain files")
        entries.append(
            ManifestFile(
                path=path.relative_to(directory).as_posix(),
                size=path.stat().st_size,
                sha256=digest_of_file(path).removeprefix("sha256:"),
            )
        )
    return entries


def base_model_digest(directory: Path) -> str:
    """Digest of a base model: over the files that decide what it answers, at the top of `directory`."""
    paths = {p for pattern in BASE_MODEL_PATTERNS for p in directory.glob(pattern) if p.is_file()}
    return digest_of_json([f.to_json() for f in describe(directory, paths)])


def read_manifest(directory: Path) -> Manifest:
    """The manifest of an artifact. Raises DigestMismatchError when it is missing or unreadable."""
    path = directory / MANIFEST_FILE
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DigestMismatchError(f"{MANIFEST_FILE} of the artifact cannot be read: {error}") from error


def verify_artifact(directory: Path, expected: str) -> Manifest:
    """The manifest of the artifact in `directory`, every file checked against it and it against `expected`.

    Raises DigestMismatchError, naming the first file that differs.
    """
    manifest = read_manifest(directory)
    if manifest.digest != expected:
        raise DigestMismatchError(f"the manifest of the artifact has digest {manifest.digest}, expected {expected}")
    for entry in manifest.files:
        path = directory / entry.path
        if path.is_symlink() or not path.is_file():
            raise DigestMismatchError(f"{entry.path} of the artifact is missing or not a plain file")
        if path.stat().st_size != entry.size or digest_of_file(path) != f"sha256:{entry.sha256}":
            raise DigestMismatchError(f"{entry.path} of the artifact was changed after it was published")
    return manifest


def verify_base_model(directory: Path, expected: str) -> None:
    """Raises DigestMismatchError unless the base model in `directory` has the digest `expected`."""
    found = base_model_digest(directory)
    if found != expected:
        raise DigestMismatchError(f"the base model has digest {found}, expected {expected}: its files were changed")
