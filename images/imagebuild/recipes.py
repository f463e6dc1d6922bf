"""What an image is made of, read from its Containerfile, and the tag that follows from it.

A tag is a hash of everything that goes into the image, so that an image exists if and only if its tag does: nothing
has to be remembered about earlier builds, and a node that has a tag never needs it again.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

REGISTRY = "localhost/anneal"
#: What a Containerfile builds on when it builds on no image of ours; here it is made by debootstrap.
SYSTEM = "docker.io/library/python:3.11-slim-bookworm"
_OURS = "anneal/"
_NEVER_COPIED = frozenset({"__pycache__", "tests"})


class RecipeError(Exception):
    """A Containerfile that this builder cannot follow; the message is a sentence."""


@dataclass(frozen=True)
class Recipe:
    """One image: where its Containerfile is, what it builds on, what it copies from the repository."""

    name: str
    containerfile: Path
    parent: str | None  # another image of ours; None stands for SYSTEM
    sources: tuple[str, ...]  # paths from the repository's root, files and folders, in order of appearance


def find_recipes(root: Path) -> dict[str, Recipe]:
    """All recipes below `root`/images by name, in alphabetical order."""
    files = sorted(root.glob("images/*/Containerfile"))
    return {file.parent.name: read_recipe(file.parent.name, file) for file in files}


def read_recipe(name: str, containerfile: Path) -> Recipe:
    """The recipe in a Containerfile.

    Raises:
        RecipeError: it does not begin with `ARG BASE=...`, or that is neither SYSTEM nor `anneal/NAME`.
    """
    instructions = list(_instructions(containerfile.read_text()))
    if not instructions or not instructions[0].startswith("ARG BASE="):
        raise RecipeError(f"{containerfile} must begin with `ARG BASE=`, which names what it builds on.")
    base = instructions[0].removeprefix("ARG BASE=")
    if base != SYSTEM and not base.startswith(_OURS):
        raise RecipeError(f"{containerfile} builds on {base}; it must be {SYSTEM} or anneal/NAME.")
    sources = tuple(source for line in instructions for source in _copied(line))
    return Recipe(name, containerfile, None if base == SYSTEM else base.removeprefix(_OURS), sources)


def in_build_order(recipes: Mapping[str, Recipe], wanted: Iterable[str]) -> list[Recipe]:
    """The wanted recipes and all that they build on, parents first, each once.

    Raises:
        RecipeError: a name without a recipe, or recipes that build on each other.
    """
    ordered: dict[str, Recipe] = {}

    def add(name: str, children: tuple[str, ...]) -> None:
        if name in children:
            raise RecipeError(f"Images build on each other in a circle: {' -> '.join((*children, name))}.")
        if name not in recipes:
            raise RecipeError(f"There is no image {name!r}; there are: {', '.join(sorted(recipes))}.")
        recipe = recipes[name]
        if recipe.parent is not None:
            add(recipe.parent, (*children, name))
        ordered.setdefault(name, recipe)

    for name in wanted:
        add(name, ())
    return list(ordered.values())


def references(root: Path, ordered: Iterable[Recipe], system: str) -> dict[str, str]:
    """The reference of each image by name, in the given order, on top of the image `system`.

    Raises:
        RecipeError: a file that a Containerfile copies does not exist.
    """
    result: dict[str, str] = {}
    for recipe in ordered:
        base = system if recipe.parent is None else result[recipe.parent]
        result[recipe.name] = f"{REGISTRY}/{recipe.name}:{_tag(root, recipe, base)}"
    return result


def short_hash(*parts: bytes) -> str:
    """12 hexadecimal digits that depend on each part and on where it ends."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:12]


def _tag(root: Path, recipe: Recipe, base: str) -> str:
    parts = [base.encode(), recipe.containerfile.read_bytes()]
    for file in _files(root, recipe):
        executable = b"x" if file.stat().st_mode & 0o100 else b"-"
        parts += [str(file.relative_to(root)).encode(), executable, file.read_bytes()]
    return short_hash(*parts)


def _files(root: Path, recipe: Recipe) -> Iterator[Path]:
    for source in recipe.sources:
        path = root / source
        if not path.exists():
            raise RecipeError(f"{recipe.containerfile} copies {source}, which does not exist.")
        within = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (p for p in within if p.is_file() and not _NEVER_COPIED.intersection(p.relative_to(root).parts))


def _instructions(text: str) -> Iterator[str]:
    """Logical lines: comments dropped, continued lines joined."""
    kept = "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    yield from (" ".join(line.split()) for line in kept.replace("\\\n", " ").splitlines())


def _copied(instruction: str) -> list[str]:
    """The paths of the repository that an instruction copies; none for other instructions and other stages."""
    word, *arguments = shlex.split(instruction)
    if word != "COPY" or any(argument.startswith("--from=") for argument in arguments):
        return []
    return [argument.rstrip("/") for argument in arguments if not argument.startswith("--")][:-1]
