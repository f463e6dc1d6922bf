"""Digests: what they cover, and that every change is found and named."""

from __future__ import annotations

from pathlib import Path

import pytest

from anneal.api.artifacts import (
    MANIFEST_FILE,
    DigestMismatchError,
    Manifest,
    base_model_digest,
    describe,
    verify_artifact,
    verify_base_model,
)

DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def artifact(tmp_path: Path) -> tuple[Path, str]:
    """A small artifact and its digest."""
    for name, content in {"adapter_model.safetensors": b"weights", "adapter_config.json": b"{}"}.items():
        (tmp_path / name).write_bytes(content)
    manifest = Manifest(files=describe(tmp_path, tmp_path.iterdir()), base_digest=DIGEST, chat_template_hash=DIGEST)
    (tmp_path / MANIFEST_FILE).write_text(manifest.model_dump_json(by_alias=True))
    return tmp_path, manifest.digest


def test_an_untouched_artifact_verifies(artifact: tuple[Path, str]) -> None:
    folder, digest = artifact
    assert verify_artifact(folder, digest).size_bytes == 9


def test_a_changed_byte_of_the_same_length_is_found_and_named(artifact: tuple[Path, str]) -> None:
    folder, digest = artifact
    (folder / "adapter_model.safetensors").write_bytes(b"Weights")
    with pytest.raises(DigestMismatchError, match=r"adapter_model.safetensors .* was changed after it was published"):
        verify_artifact(folder, digest)


def test_a_missing_file_and_a_link_in_its_place_are_found(artifact: tuple[Path, str]) -> None:
    folder, digest = artifact
    (folder / "adapter_config.json").rename(folder / "elsewhere.json")
    with pytest.raises(DigestMismatchError, match=r"adapter_config.json .* missing"):
        verify_artifact(folder, digest)
    (folder / "adapter_config.json").symlink_to(folder / "elsewhere.json")
    with pytest.raises(DigestMismatchError, match="not a plain file"):
        verify_artifact(folder, digest)


def test_another_manifest_is_another_digest(artifact: tuple[Path, str]) -> None:
    folder, _ = artifact
    with pytest.raises(DigestMismatchError, match="expected sha256:0000"):
        verify_artifact(folder, DIGEST)
    (folder / MANIFEST_FILE).write_text("{")
    with pytest.raises(DigestMismatchError, match="cannot be read"):
        verify_artifact(folder, DIGEST)


def test_the_base_digest_covers_what_decides_answers_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"w")
    digest = base_model_digest(tmp_path)
    (tmp_path / "README.md").write_text("new words")
    assert base_model_digest(tmp_path) == digest
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(DigestMismatchError, match="files were changed"):
        verify_base_model(tmp_path, digest)
