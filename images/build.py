#!/usr/bin/env python3
"""Build the images that are not built yet, into one OCI layout directory in the cache folder.

Needs Python's standard library and, on Debian, root to install the packages that are missing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "images"), str(ROOT / "tests" / "cluster")]

from imagebuild import layout, recipes, system  # noqa: E402 - the path is set above
from imagebuild.buildah import Buildah, BuildError  # noqa: E402
from local_cluster import packages, paths  # noqa: E402
from local_cluster.console import step  # noqa: E402
from local_cluster.errors import ClusterError  # noqa: E402
from local_cluster.locks import exclusive  # noqa: E402


def main() -> int:
    """Build what the command line names; by default everything."""
    options = _options()
    try:
        found = recipes.find_recipes(ROOT)
        ordered = recipes.in_build_order(found, options.names or found)
        references = recipes.references(ROOT, ordered, system.reference())
        if not options.print_refs:
            with exclusive(paths.cache_root() / "images.lock"):
                _build(ordered, references)
    except (recipes.RecipeError, BuildError, ClusterError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(references, indent=2))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Build images; print {name: reference} on standard output.")
    parser.add_argument("names", nargs="*", help="images to build, with those they build on; default: all")
    parser.add_argument("--print-refs", action="store_true", help="build nothing, only print the references")
    return parser.parse_args()


def _build(ordered: list[recipes.Recipe], references: dict[str, str]) -> None:
    cache = paths.cache_root()
    images = cache / "oci"
    present = layout.stored(images)
    missing = [recipe for recipe in ordered if references[recipe.name] not in present]
    if missing:
        packages.ensure(["buildah", "debootstrap", "skopeo", "zstd"])
        store = Buildah(cache)
        _make(store, ordered, references, cache / "build")
        for recipe in missing:
            with step(f"{references[recipe.name]}: into {images}"):
                _copy(store, references[recipe.name], images)
        kept = {*references.values(), *_remembered(cache).values()}
        store.keep_only({system.reference(), *kept})
        layout.keep_only(images, kept)
    _remember(cache, references)


def _make(store: Buildah, ordered: list[recipes.Recipe], references: dict[str, str], scratch: Path) -> None:
    """Build in the store what it lacks; it may be an older store than the layout, or a newer one."""
    present = store.images()
    if system.reference() not in present:
        with step(f"{system.reference()}: debootstrap"):
            system.build(store, scratch)
    for recipe in ordered:
        reference = references[recipe.name]
        if reference not in present:
            base = references[recipe.parent] if recipe.parent else system.reference()
            with step(f"{reference}: build"):
                store.build(reference, recipe.containerfile, ROOT, base)


def _copy(store: Buildah, reference: str, images: Path) -> None:
    with tempfile.TemporaryDirectory(dir=images.parent / "build") as folder:
        store.export(reference, Path(folder), layout.layers(images))
        layout.add(images, reference, Path(folder))


def _remembered(cache: Path) -> dict[str, str]:
    file = cache / "images.json"
    return json.loads(file.read_text()) if file.exists() else {}


def _remember(cache: Path, references: dict[str, str]) -> None:
    """Note the references in images.json, for whoever loads images into a node."""
    known = _remembered(cache)
    if known | references != known:
        written = cache / "images.json.new"
        written.write_text(json.dumps(known | references, indent=2) + "\n")
        written.replace(cache / "images.json")


if __name__ == "__main__":
    sys.exit(main())
