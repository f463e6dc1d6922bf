"""Base models from elsewhere: only files that are data, into a folder of the cache that is complete or absent.

A model is data from somebody. What comes in is weights as safetensors, and the JSON, vocabulary and template files that
transformers reads; pickles and Python files stay where they are, whatever a configuration says about them.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path

from anneal.api.artifacts import BASE_MODEL_PATTERNS
from anneal.api.runs import Access, MountedPath, PrepareRun
from anneal_trainer import files
from anneal_trainer.errors import Unavailable, UserMistake
from anneal_trainer.preemption import Preemption
from anneal_trainer.sources.connect import connect
from anneal_trainer.sources.layers import Unpacking
from anneal_trainer.sources.leash import Leash
from anneal_trainer.sources.place import Place, RemoteFile
from anneal_trainer.workspace import Workspace

#: Lies in every folder of a cache: where the model in it comes from.
SOURCE_FILE = "anneal-source.json"
_ALLOWED_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ALLOWED_KINDS = (".safetensors", ".json", ".model", ".jinja", ".txt")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
_MAX_FILES = 1000
_MAX_BYTES_BUT_WEIGHTS = 512 * 1024**2
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Located:
    """The base model where this pod can read it."""

    place: MountedPath
    """What the user calls it, and its directory."""
    fetched_to: str | None = None
    """URI of that directory, if the model was fetched."""
    revision: str | None = None
    """The commit that its name stood for, where the scheme has commits."""


def located(run: PrepareRun, preemption: Preemption, leash: Leash | None = None) -> Located:
    """The base model, fetched if it is not in a claim yet. Raises UserMistake or Unavailable."""
    model = run.model
    if model.path is not None:
        return Located(_plain_folder(MountedPath(uri=model.uri, path=model.path)))
    if model.cache is None:
        raise UserMistake("InvalidRun", f"the run document does not say where to keep {model.uri}")
    cache = Path(model.cache.path)
    how = Unpacking(cache / f".{run.object.uid}.layers", "models", is_wanted)
    place = connect(model.uri, model.access, leash or Leash(), Workspace(Path(run.workspace)).pins, how)
    # What has a revision is not looked into when it is here: of an image, that would be to fetch it.
    wanted = [] if place.revision else chosen(place.files(), model.uri)
    revision = place.revision or _fingerprint(wanted)
    name = _folder_name(model.uri, model.access, revision)
    folder = cache / name
    if not folder.exists():
        aside = folder.with_name(f".{name}.{run.object.uid}.partial")
        wanted = wanted or chosen(place.files(), model.uri)
        _Fetch(model.uri, place, revision, wanted, folder, aside).run(preemption)
    files.remove_folder(how.folder)
    uri = f"{model.cache.uri.rstrip('/')}/{name}"
    return Located(_plain_folder(MountedPath(uri=model.uri, path=str(folder))), uri, place.revision)


def is_wanted(name: str) -> bool:
    """Whether a file is data that models are read from."""
    known = any(fnmatchcase(name, pattern) for pattern in BASE_MODEL_PATTERNS)
    return known and name.endswith(_ALLOWED_KINDS) and _ALLOWED_NAME.fullmatch(name) is not None


def chosen(offered: Sequence[RemoteFile], uri: str) -> list[RemoteFile]:
    """Those of the files that are fetched. Raises UserMistake, with its name, for what makes the model unusable."""
    wanted = [f for f in offered if is_wanted(f.name)]
    weights = [f for f in wanted if f.name.endswith(".safetensors")]
    if not weights:
        pickles = sorted(f.name for f in offered if f.name.endswith(_PICKLES))
        if pickles:
            raise UserMistake(
                "PickledWeights",
                f"{uri} has pickled weights only ({pickles[0]}), which can run code when loaded, and are never fetched:"
                " use a repository or a revision with *.safetensors",
            )
        raise UserMistake("ModelUnusable", f"{uri} has no weights (*.safetensors)")
    # Some repositories hold their weights twice: as transformers reads them, and whole.
    if any(f.name in (_INDEX, "model.safetensors") for f in wanted):
        wanted = [f for f in wanted if f not in weights or f.name.startswith("model")]
    if len(wanted) > _MAX_FILES:
        raise UserMistake("SourceTooLarge", f"{uri} has {len(wanted)} files, more than {_MAX_FILES}")
    for file in wanted:
        if not file.name.endswith(".safetensors") and (file.size or 0) > _MAX_BYTES_BUT_WEIGHTS:
            raise UserMistake(
                "SourceTooLarge",
                f"{file.name} of {uri} has {file.size} bytes, more than {_MAX_BYTES_BUT_WEIGHTS} for a file that is not"
                " weights",
            )
    return sorted(wanted, key=lambda f: f.size or 0)


@dataclass(frozen=True)
class _Fetch:
    """Bringing one model into its folder."""

    uri: str
    place: Place
    revision: str
    wanted: Sequence[RemoteFile]
    folder: Path
    aside: Path
    """Of this job alone. What an earlier try has brought is not fetched again."""

    def run(self, preemption: Preemption) -> None:
        """Makes the folder: complete or not at all."""
        self.aside.mkdir(parents=True, exist_ok=True)
        missing = [f for f in self.wanted if not (self.aside / f.name).exists()]
        _check_room(self.aside, sum(f.size or 0 for f in missing if not f.is_here), self.uri)
        for file in missing:
            preemption.check("fetching the base model")
            self.place.fetch(file, self.aside / file.name)
        source = {"uri": self.uri, "revision": self.revision, "files": {f.name: f.version for f in self.wanted}}
        files.write_json(self.aside / SOURCE_FILE, source)
        try:
            files.settle(self.aside, self.folder)
        except OSError:
            if not self.folder.exists():
                raise
            shutil.rmtree(self.aside, ignore_errors=True)  # another job has brought it in the meantime


def _check_room(folder: Path, needed: int, uri: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise Unavailable(
            "NoSpaceLeft",
            f"{uri} needs {needed / 1e9:.1f} GB and the claim of spec.model.cache has {free / 1e9:.1f} GB left: make"
            " the claim larger",
        )


def _folder_name(uri: str, access: Access, revision: str) -> str:
    """A folder for each model, server and revision: jobs that mean the same share it, and no others."""
    above, _, last = uri.partition("@sha256:")[0].rpartition("/")
    name = last.partition(":")[0] or above.rpartition("/")[2]
    key = json.dumps([f"{above}/{last.partition(':')[0]}", access.endpoint, revision])
    return f"{name[:64].lower()}-{sha256(key.encode()).hexdigest()[:16]}"


def _fingerprint(listed: Sequence[RemoteFile]) -> str:
    """What stands for a revision where the scheme has none: names, sizes and versions of all files."""
    rows = sorted((f.name, f.size, f.version) for f in listed)
    return sha256(json.dumps(rows).encode()).hexdigest()


def _plain_folder(place: MountedPath) -> MountedPath:
    path = Path(place.path)
    if path.is_dir() and path.resolve() != path.absolute():
        raise UserMistake(
            "SourceNotAllowed", f"the base model {place.uri} is or lies behind a symbolic link: name the folder itself"
        )
    return place
