"""Archives from somebody: what is taken out of them, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pytest
from tests.trainer.test_bad_input import not_its_bytes

from anneal_trainer.errors import Unavailable, UserMistake
from anneal_trainer.sources import layers
from anneal_trainer.sources.layers import Unpacking, unpacked
from anneal_trainer.sources.models import is_wanted
from anneal_trainer.sources.place import RemoteFile

WEIGHTS = os.urandom(300_000)


def entry(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **more: object
) -> tuple[tarfile.TarInfo, bytes]:
    found = tarfile.TarInfo(name)
    found.type, found.size = kind, len(content)
    for key, value in more.items():
        setattr(found, key, value)
    return found, content


def archive(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as written:
        for found, content in entries:
            written.addfile(found, io.BytesIO(content))
    return output.getvalue()


def blocks(content: bytes, size: int = 10_000) -> Iterator[bytes]:
    return (content[i : i + size] for i in range(0, len(content), size))


def take(content: bytes, folder: Path, root: str = "models", most: int | None = None) -> list[RemoteFile]:
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    keeps: Callable[[str], bool] = is_wanted if root else lambda _: True
    return unpacked(blocks(content), digest, len(content), Unpacking(folder, root, keeps, most), "oci://r/a")


GOOD = archive(
    entry("bin/sh", kind=tarfile.SYMTYPE, linkname="/bin/busybox"),
    entry("models", kind=tarfile.DIRTYPE),
    entry("./models/model.safetensors", WEIGHTS),
    entry("models/config.json", b"{}"),
    entry("models/training_args.bin", b"pickle"),
    entry("models/run.py", b"import os"),
    entry("models/deep/config.json", b"{}"),
    entry("etc/config.json", b"{}"),
)


@pytest.mark.parametrize(
    "content",
    [GOOD, gzip.compress(GOOD), pyarrow.compress(GOOD, "zstd", asbytes=True)],
    ids=["plain", "gzip", "zstd"],
)
def test_only_data_is_taken_out_and_everything_is_listed(tmp_path: Path, content: bytes) -> None:
    found = {file.name: file for file in take(content, tmp_path)}
    assert list(found) == ["model.safetensors", "config.json", "training_args.bin", "run.py", "deep/config.json"]
    assert Path(found["model.safetensors"].path).read_bytes() == WEIGHTS
    assert found["model.safetensors"].version == "sha256:" + hashlib.sha256(WEIGHTS).hexdigest()
    written = {p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and p.name != "list.json"}
    assert written == {WEIGHTS, b"{}"}


def test_a_layer_is_unpacked_once(tmp_path: Path) -> None:
    first = take(GOOD, tmp_path)
    digest = "sha256:" + hashlib.sha256(GOOD).hexdigest()
    never: Iterator[bytes] = (1 // 0 for _ in "x")  # type: ignore[misc]
    assert unpacked(never, digest, len(GOOD), Unpacking(tmp_path, "models", is_wanted), "oci://r/a") == first


def test_a_layer_that_was_cut_off_is_unpacked_anew(tmp_path: Path) -> None:
    def dying() -> Iterator[bytes]:
        yield GOOD[:200_000]
        raise KeyboardInterrupt

    digest = "sha256:" + hashlib.sha256(GOOD).hexdigest()
    with pytest.raises(KeyboardInterrupt):
        unpacked(dying(), digest, len(GOOD), Unpacking(tmp_path, "models", is_wanted), "oci://r/a")
    assert len(take(GOOD, tmp_path)) == 5


#: The header of config.json, which is the fourth, is overwritten.
BROKEN = GOOD.replace(b"models/config.json", b"models/config.jsoN", 1)
SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9", "GNU.sparse.name": "models/a"}


@pytest.mark.parametrize(
    ("content", "reason", "sentence"),
    [
        (archive(entry("models/../../etc/passwd", b"x")), "SourceNotAllowed", "'models/../../etc/passwd', which leads"),
        (archive(entry("../x", b"x")), "SourceNotAllowed", "which leads out of it"),
        (
            archive(entry("models/config.json", kind=tarfile.SYMTYPE, linkname="/etc/passwd")),
            "SourceNotAllowed",
            "'models/config.json', which is a link or a device",
        ),
        (archive(entry("models/a", kind=tarfile.LNKTYPE, linkname="x")), "SourceNotAllowed", "is a link or a device"),
        (archive(entry("models/a", kind=tarfile.CHRTYPE)), "SourceNotAllowed", "is a link or a device"),
        (archive(entry("models/a", kind=tarfile.FIFOTYPE)), "SourceNotAllowed", "is a link or a device"),
        (archive(entry("models/.wh.config.json")), "SourceNotAllowed", "removes files of a layer below"),
        (archive(entry("a", b"1\n0\n4\n" + bytes(506), pax_headers=SPARSE)), "SourceNotAllowed", "with holes"),
        (
            archive(entry("models/a", pax_headers={"comment": "x" * 3_000_000})),
            "SourceNotAllowed",
            "has a header of more than 1048576 bytes",
        ),
        (b"\x1f\x8b" + b"no gzip at all", "SourceNotReadable", "is not an archive that can be read"),
        (gzip.compress(GOOD)[:-5000], "SourceNotReadable", "is not an archive that can be read"),
        (b"no archive" * 1000, "SourceNotReadable", "is not an archive that can be read"),
        (GOOD[:100_000], "SourceNotReadable", "is not an archive that can be read"),
        (BROKEN, "SourceNotReadable", "is not an archive that can be read: bad checksum at byte"),
        (BROKEN[:-9700], "SourceNotReadable", "is not an archive that can be read"),
    ],
    ids=not_its_bytes,
)
def test_tricks_are_refused_in_a_sentence(tmp_path: Path, content: bytes, reason: str, sentence: str) -> None:
    with pytest.raises(UserMistake) as refused:
        take(content, tmp_path)
    assert sentence in str(refused.value)
    assert refused.value.reason == reason
    assert "of oci://r/a" in str(refused.value)


def test_what_arrives_damaged_is_not_called_a_mistake(tmp_path: Path) -> None:
    def damaged() -> Iterator[bytes]:
        yield b"\x1f\x8b" + bytes(100_000)
        raise Unavailable("SourceUnavailable", "arrived damaged")

    digest = "sha256:" + hashlib.sha256(GOOD).hexdigest()
    with pytest.raises(Unavailable, match="arrived damaged"):
        unpacked(damaged(), digest, len(GOOD), Unpacking(tmp_path, "models", is_wanted), "oci://r/a")


def test_a_bomb_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "_MAX_BYTES_OF_SMALL", 1_000_000)
    bomb = gzip.compress(archive(entry("models/model.safetensors", bytes(50_000_000))))
    with pytest.raises(UserMistake, match="unpacks to more than 1000000 bytes") as refused:
        take(bomb, tmp_path)
    assert refused.value.reason == "SourceTooLarge"
    assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) < 5_000_000
    with pytest.raises(UserMistake, match="unpacks to more than 999 bytes"):
        take(gzip.compress(archive(entry("rows.jsonl", bytes(5000)))), tmp_path, "", 999)


def test_a_layer_of_countless_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "_MAX_ENTRIES", 5)
    with pytest.raises(UserMistake, match="has more than 5 entries"):
        take(GOOD, tmp_path)
