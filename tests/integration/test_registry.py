"""`oci://` against a real registry: artifacts become images that others read, whole and once, or a sentence."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.https_server import https_server
from tests.support.registry_service import (
    PASSWORD,
    USER,
    RegistryService,
    TokenServer,
    docker_config,
    registry_service,
)
from tests.support.tiny_model import write_artifact, write_base

from anneal.api.artifacts import read_manifest, verify_artifact
from anneal.api.references import OciLocation, parse
from anneal.api.runs import Access, RemotePath
from anneal_trainer.errors import Unavailable, UserMistake
from anneal_trainer.publish import image, mirror
from anneal_trainer.sources import Leash
from local_cluster import packages

pytestmark = pytest.mark.integration
LOOSE = Leash(timeout_seconds=5, is_forbidden=lambda _: False)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryService]:
    with registry_service(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_base(folder)
    return folder


@pytest.fixture(scope="module")
def artifact(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts") / "0123456789abcdef"
    write_artifact(folder, base)
    return folder


@dataclass
class Copying:
    """Someone with a Secret for the registry."""

    service: RegistryService
    root: Path

    def access(self, **keys: str) -> Access:
        """Access by the Secret `store`; an empty value leaves a key out."""
        folder = self.root / "credentials" / "store"
        folder.mkdir(parents=True, exist_ok=True)
        usual = {".dockerconfigjson": docker_config(self.service.host), "ca.crt": self.service.ca_file.read_text()}
        for key, value in (usual | keys).items():
            (folder / key).write_text(value)
        return Access(credentials=str(folder))

    def where(self, name: str) -> OciLocation:
        found = parse(f"oci://{self.service.host}/{name}")
        assert isinstance(found, OciLocation)
        return found

    def push(self, artifact: Path, name: str, access: Access | None = None) -> str:
        return image.pushed(artifact, self.where(name), access or self.access(), LOOSE)

    def unpacked(self, uri: str, architecture: str = "amd64") -> tuple[dict[str, Any], Path]:
        """The manifest of an image and its files, as another program reads them."""
        packages.ensure(["skopeo"])
        layout = self.root / f"layout-{architecture}"
        trusted = self.root / "trusted"
        trusted.mkdir(exist_ok=True)
        (trusted / "ca.crt").write_bytes(self.service.ca_file.read_bytes())
        command = [
            "skopeo",
            "--insecure-policy",
            f"--override-arch={architecture}",
            "copy",
            f"--src-cert-dir={trusted}",
        ]
        ends = [f"--src-creds={USER}:{PASSWORD}", uri.replace("oci://", "docker://"), f"oci:{layout}:it"]
        done = subprocess.run([*command, *ends], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        named = json.loads((layout / "index.json").read_bytes())["manifests"][0]["digest"]
        manifest = json.loads(_blob(layout, named).read_bytes())
        for layer in manifest["layers"]:
            with tarfile.open(_blob(layout, layer["digest"]), "r:gz") as content:
                content.extractall(layout / "root", filter="tar")
        return manifest, layout / "root" / "models"


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")


@pytest.fixture
def copying(service: RegistryService, tmp_path: Path) -> Copying:
    return Copying(service, tmp_path)


def test_an_artifact_becomes_an_image_that_others_read(copying: Copying, artifact: Path) -> None:
    wanted = RemotePath(uri=copying.where("team/intents").uri, access=copying.access())
    uri = mirror.mirrored(artifact, wanted, LOOSE)
    assert uri.startswith(f"{wanted.uri}@sha256:")
    ours = read_manifest(artifact)
    for architecture in ("amd64", "arm64"):
        manifest, files = copying.unpacked(uri, architecture)
        verify_artifact(files, ours.digest)
        assert {p.relative_to(files) for p in files.rglob("*")} == {
            p.relative_to(artifact) for p in artifact.rglob("*")
        }
        assert manifest["annotations"]["dev.anneal.digest"] == ours.digest
        assert manifest["annotations"]["dev.anneal.base-digest"] == ours.base_digest
    before = copying.service.blobs()
    assert mirror.mirrored(artifact, wanted, LOOSE) == uri
    assert copying.service.blobs() == before


class Killed(BaseException):
    """What no handler catches."""


@contextmanager
def dying(after: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process dies when the registry has its write of that number."""
    stream, written = httpx2.Client.stream, 0

    @contextmanager
    def counted(self: Any, method: str, *arguments: Any, **more: Any) -> Iterator[Any]:
        nonlocal written
        with stream(self, method, *arguments, **more) as response:
            written += method in ("POST", "PUT")
            if written == after and method in ("POST", "PUT"):
                raise Killed
            yield response

    with monkeypatch.context() as patched:
        patched.setattr(httpx2.Client, "stream", counted)
        yield


def test_a_copy_that_dies_at_any_write_is_made_whole(
    copying: Copying, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = copying.push(artifact, "team/whole").rpartition("@")[2]
    deaths = 0
    for after in range(1, 100):
        name = f"team/cut-{after}"
        try:
            with dying(after, monkeypatch):
                copying.push(artifact, name)
            break
        except Killed:
            deaths += 1
        assert copying.push(artifact, name) == f"{copying.where(name).uri}@{whole}"
    assert deaths == 9  # a layer and two configurations of two requests each, three manifests
    _, files = copying.unpacked(f"{copying.where('team/cut-1').uri}@{whole}")
    verify_artifact(files, read_manifest(artifact).digest)


def test_a_layer_that_is_cut_off_is_sent_anew(
    copying: Copying, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(layer: image.Layer) -> Iterator[bytes]:
        yield next(image.gzip(image.tar(layer.folder)))
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(image.Layer, "content", cut)
        with pytest.raises(Killed):
            copying.push(artifact, "team/half")
    _, files = copying.unpacked(copying.push(artifact, "team/half"))
    verify_artifact(files, read_manifest(artifact).digest)


def test_a_layer_that_is_there_is_not_sent_again(
    copying: Copying, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying.push(artifact, "team/twice:one")
    sent: list[str] = []
    stream = httpx2.Client.stream

    def noted(self: Any, method: str, *arguments: Any, **more: Any) -> Any:
        sent.append(method)
        return stream(self, method, *arguments, **more)

    monkeypatch.setattr(httpx2.Client, "stream", noted)
    copying.push(artifact, "team/twice:two")
    assert sent.count("POST") == 0


def test_another_image_of_that_tag_is_left_alone(copying: Copying, artifact: Path, base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / artifact.name
    write_artifact(other, base, seed=7)
    uri = copying.push(other, "team/taken:v1")
    with pytest.raises(UserMistake, match="team/taken:v1 is another image already") as refused:
        copying.push(artifact, "team/taken:v1")
    assert refused.value.reason == "OutputOccupied"
    assert copying.push(other, "team/taken:v1") == uri


@pytest.mark.parametrize(
    ("config", "reason", "sentence"),
    [
        ("wrong", "OutputNotWritable", "may not be written with the login of Secret 'store'"),
        ("elsewhere", "SecretUnusable", "has no entry for HOST; it has ghcr.io: add one"),
        ("", "SecretUnusable", "Secret 'store' has no key .dockerconfigjson"),
        ("[]", "SecretUnusable", "is not JSON with 'auths'"),
        ("token", "SecretUnusable", "the entry for HOST in .dockerconfigjson of Secret 'store' has no username and"),
    ],
    ids=["wrong password", "another registry", "no key", "not a login", "identity token"],
)
def test_a_login_that_does_not_fit(copying: Copying, artifact: Path, config: str, reason: str, sentence: str) -> None:
    host = copying.service.host
    texts = {
        "wrong": docker_config(host, password="guessed"),
        "elsewhere": docker_config("ghcr.io"),
        "token": json.dumps({"auths": {host: {"identitytoken": "x"}}}),
    }
    access = copying.access(**{".dockerconfigjson": texts.get(config, config), "other": "x"})
    with pytest.raises(UserMistake) as refused:
        copying.push(artifact, "team/refused", access)
    assert refused.value.reason == reason, refused.value
    assert sentence.replace("HOST", host) in str(refused.value)
    assert PASSWORD not in str(refused.value)


def test_the_node_itself_is_no_registry(copying: Copying, artifact: Path) -> None:
    with pytest.raises(UserMistake, match=r"leads to 127\.0\.0\.1, an address of the node itself") as refused:
        image.pushed(artifact, copying.where("team/a"), copying.access(), Leash())
    assert refused.value.reason == "SourceNotAllowed"


def test_a_registry_that_is_not_there_or_not_trusted(copying: Copying, artifact: Path) -> None:
    away = copying.access().model_copy(update={"endpoint": "https://127.0.0.1:1"})
    with pytest.raises(Unavailable, match=r"team/a at https://127\.0\.0\.1:1 could not be reached"):
        copying.push(artifact, "team/a", away)
    with pytest.raises(UserMistake, match=r"put its authority into key ca\.crt of the Secret"):
        copying.push(artifact, "team/a", copying.access(**{"ca.crt": ""}))


def test_a_password_goes_to_a_token_server_only_when_the_secret_names_it(artifact: Path, tmp_path: Path) -> None:
    tokens = TokenServer(tmp_path)
    with https_server(tmp_path, {}) as server:
        server.default = tokens.answer
        tokens.realm = f"{server.url}/token"
        with registry_service(tmp_path, tokens.auth()) as service:
            copying = Copying(service, tmp_path)
            elsewhere = server.url.removeprefix("https://")
            with pytest.raises(UserMistake, match=f"add an entry for {elsewhere} to .dockerconfigjson"):
                copying.push(artifact, "team/tokens")
            assert tokens.seen == []
            both = copying.access(**{".dockerconfigjson": docker_config(service.host, elsewhere)})
            copying.push(artifact, "team/tokens", both)
            assert all(login for _, login in tokens.seen)
            assert {scope for scope, _ in tokens.seen} == {"repository:team/tokens:pull,push"}
            wrong = docker_config(service.host, elsewhere, password="guessed")
            with pytest.raises(UserMistake, match="may not be written with the login of Secret 'store'"):
                copying.push(artifact, "team/tokens", copying.access(**{".dockerconfigjson": wrong}))
