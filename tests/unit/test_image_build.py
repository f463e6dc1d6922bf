"""What is built, on top of what, in which order, and when a tag changes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from imagebuild import layout
from imagebuild.recipes import SYSTEM, RecipeError, find_recipes, in_build_order, read_recipe, references

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with two images: `heavy` on the system, `light` on heavy."""
    for file, text in {
        "images/heavy/Containerfile": f"# big\nARG BASE={SYSTEM}\nFROM ${{BASE}}\nCOPY images/heavy/packages.txt /\n",
        "images/heavy/packages.txt": "torch",
        "images/light/Containerfile": "ARG BASE=anneal/heavy\nFROM ${BASE}\nCOPY program \\\n    /opt/program\n",
        "program/main.py": "print(1)",
        "program/__pycache__/main.pyc": "compiled",
    }.items():
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def tags(root: Path, system: str = "localhost/anneal/python:1") -> dict[str, str]:
    recipes = find_recipes(root)
    return references(root, in_build_order(recipes, recipes), system)


def test_a_recipe_is_what_its_containerfile_says(repository: Path) -> None:
    recipes = find_recipes(repository)
    assert [(r.name, r.parent, r.sources) for r in recipes.values()] == [
        ("heavy", None, ("images/heavy/packages.txt",)),
        ("light", "heavy", ("program",)),
    ]


def test_only_copies_out_of_the_repository_are_sources(tmp_path: Path) -> None:
    file = tmp_path / "Containerfile"
    file.write_text("ARG BASE=anneal/x\nFROM ${BASE}\nCOPY --chmod=755 a b/ /to/\n# COPY c /\nCOPY --from=stage d /\n")
    assert read_recipe("x", file).sources == ("a", "b")


def test_parents_are_built_first_and_once(repository: Path) -> None:
    recipes = find_recipes(repository)
    assert [r.name for r in in_build_order(recipes, ["light", "heavy", "light"])] == ["heavy", "light"]


def test_the_same_content_has_the_same_tag_and_compiled_files_do_not_count(repository: Path) -> None:
    before = tags(repository)
    (repository / "program/__pycache__/main.pyc").write_text("compiled anew")
    (repository / "program/main.py").touch()
    assert tags(repository) == before


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("images/heavy/Containerfile", {"heavy", "light"}),
        ("images/heavy/packages.txt", {"heavy", "light"}),
        ("images/light/Containerfile", {"light"}),
        ("program/main.py", {"light"}),
    ],
)
def test_a_change_gives_new_tags_to_what_it_is_in_and_to_what_builds_on_that(
    repository: Path, file: str, changed: set[str]
) -> None:
    before = tags(repository)
    path = repository / file
    path.write_text(path.read_text() + "\n")
    after = tags(repository)
    assert {name for name in after if after[name] != before[name]} == changed


def test_a_new_file_a_new_name_and_a_new_mode_are_changes(repository: Path) -> None:
    seen = {tags(repository)["light"]}
    (repository / "program/more.py").write_text("")
    seen.add(tags(repository)["light"])
    (repository / "program/more.py").rename(repository / "program/most.py")
    seen.add(tags(repository)["light"])
    (repository / "program/most.py").chmod(0o755)
    seen.add(tags(repository)["light"])
    assert len(seen) == 4


def test_another_system_below_changes_every_tag(repository: Path) -> None:
    one, other = tags(repository), tags(repository, "localhost/anneal/python:2")
    assert all(one[name] != other[name] for name in one)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("FROM scratch\n", "must begin with `ARG BASE=`"),
        ("ARG BASE=docker.io/library/alpine\nFROM ${BASE}\n", "builds on docker.io/library/alpine"),
    ],
)
def test_a_containerfile_that_cannot_be_followed_is_refused(repository: Path, text: str, says: str) -> None:
    (repository / "images/light/Containerfile").write_text(text)
    with pytest.raises(RecipeError, match=says):
        find_recipes(repository)


def test_a_missing_source_an_unknown_name_and_a_circle_are_named(repository: Path) -> None:
    recipes = find_recipes(repository)
    with pytest.raises(RecipeError, match="no image 'medium'; there are: heavy, light"):
        in_build_order(recipes, ["medium"])
    (repository / "images/heavy/packages.txt").unlink()
    with pytest.raises(RecipeError, match=r"copies images/heavy/packages.txt, which does not exist"):
        tags(repository)
    (repository / "images/heavy/Containerfile").write_text("ARG BASE=anneal/light\nFROM ${BASE}\n")
    with pytest.raises(RecipeError, match="circle: light -> heavy -> light"):
        in_build_order(find_recipes(repository), ["light"])


def test_our_own_images_are_found_with_one_torch_layer_below_those_that_need_it() -> None:
    recipes = find_recipes(ROOT)
    assert {r.name: r.parent for r in recipes.values()} == {
        "base": None,
        "demo": "base",
        "evaluator": None,
        "lm-eval": None,
        "operator": None,
        "trainer": "base",
        "triton": "base",
        "vllm-cpu": "base",
    }


def test_every_image_that_runs_is_non_root_by_number() -> None:
    for recipe in find_recipes(ROOT).values():
        text = recipe.containerfile.read_text()
        assert ("ENTRYPOINT" in text) == ("\nUSER 65532:65532\n" in text), recipe.name


def test_the_layout_forgets_images_and_the_blobs_that_only_they_needed(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    entries = []
    for name, layers in {"old": ["shared", "a"], "new": ["shared", "b"]}.items():
        described = [{"digest": f"sha256:{layer}"} for layer in layers]
        manifest = {"config": {"digest": f"sha256:config-{name}"}, "layers": described}
        (blobs / f"manifest-{name}").write_text(json.dumps(manifest))
        for blob in (f"config-{name}", *layers):
            (blobs / blob).write_text("")
        annotations = {"org.opencontainers.image.ref.name": f"localhost/anneal/x:{name}"}
        entries.append({"digest": f"sha256:manifest-{name}", "annotations": annotations})
    (tmp_path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))

    layout.keep_only(tmp_path, {"localhost/anneal/x:new"})

    assert layout.stored(tmp_path) == {"localhost/anneal/x:new"}
    assert {blob.name for blob in blobs.iterdir()} == {"manifest-new", "config-new", "shared", "b"}


def test_a_layout_that_does_not_exist_yet_stores_nothing(tmp_path: Path) -> None:
    assert layout.stored(tmp_path / "oci") == set()


def write_layout(folder: Path, reference: str, diff_ids: list[str], layers: list[dict[str, object]]) -> None:
    """A layout of one image; digests are names, which is all that the code under test compares."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    config = json.dumps({"rootfs": {"diff_ids": diff_ids}})
    manifest = {"schemaVersion": 2, "config": {"digest": f"sha256:config-{reference[-1]}"}, "layers": layers}
    (blobs / f"config-{reference[-1]}").write_text(config)
    (blobs / f"manifest-{reference[-1]}").write_text(json.dumps(manifest))
    entry = {
        "digest": f"sha256:manifest-{reference[-1]}",
        "annotations": {"org.opencontainers.image.ref.name": reference},
    }
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


def test_a_layer_that_the_layout_has_is_taken_from_there(tmp_path: Path) -> None:
    stored, exported = tmp_path / "oci", tmp_path / "exported"
    torch = {"mediaType": "tar+zstd", "digest": "sha256:compressed", "size": 7}
    write_layout(stored, "localhost/anneal/x:a", ["sha256:torch"], [torch])
    write_layout(exported, "image:b", ["sha256:torch"], [{"mediaType": "tar", "digest": "sha256:torch", "size": 0}])

    layout.add(stored, "localhost/anneal/x:b", exported)

    assert layout.stored(stored) == {"localhost/anneal/x:a", "localhost/anneal/x:b"}
    added = json.loads((stored / "index.json").read_text())["manifests"][-1]
    text = (stored / "blobs" / "sha256" / added["digest"].removeprefix("sha256:")).read_bytes()
    assert json.loads(text)["layers"] == [torch]
    assert added["size"] == len(text)
    assert added["digest"] == f"sha256:{hashlib.sha256(text).hexdigest()}"
