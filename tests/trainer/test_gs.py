"""`gs://` against a service on this machine: models and data, with a key and without, copies, and what is refused."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.support.gs_server import GsServer, Stored, gs_server, key_file
from tests.support.https_server import https_server, status
from tests.trainer.job import Job

from anneal.api.artifacts import MANIFEST_FILE, base_model_digest, digest_of_bytes
from anneal.api.references import GsLocation
from anneal.api.runs import Access, ModelInput, MountedPath, PrepareRun, RemotePath, RunResult, SourceInput
from anneal_trainer.errors import TrainerError, Unavailable, UserMistake
from anneal_trainer.publish.mirror import mirrored
from anneal_trainer.sources import Leash, data, gs, models
from anneal_trainer.sources.credentials import Credentials
from anneal_trainer.sources.gs_keys import KEY
from anneal_trainer.sources.models import SOURCE_FILE

LOOSE = Leash(timeout_seconds=5, is_forbidden=lambda _: False)
PATIENT = Leash(timeout_seconds=60, is_forbidden=lambda _: False)
#: Sent in two parts.
LARGE = 20 * 1024 * 1024
READ, WRITE = (f"https://www.googleapis.com/auth/devstorage.{what}" for what in ("read_only", "read_write"))


@dataclass
class Storage:
    """The service, and how it is reached."""

    service: GsServer
    root: Path

    def secret(self, key: str | None = "", name: str = "store", **more: str) -> Access:
        """How to reach the service with a key; None: with its authority alone."""
        folder = self.root / "credentials" / name
        folder.mkdir(parents=True, exist_ok=True)
        entries = {"ca.crt": self.service.server.ca_file.read_text(), **more}
        if key is not None:
            entries[KEY] = key or key_file(self.service.token_uri)
        for entry, value in entries.items():
            (folder / entry).write_text(value)
        return Access(endpoint=self.service.url, credentials=str(folder))

    def folder(self, key: str = "acme/tiny", access: Access | None = None, leash: Leash = LOOSE) -> gs.Folder:
        access = access or self.secret()
        credentials = Credentials.read(access.credentials)
        return gs.connect(GsLocation("models", key), access.endpoint, credentials, leash)

    def mirrored(self, artifact: Path, where: str = "gs://models/tuned", leash: Leash = LOOSE) -> str:
        return mirrored(artifact, RemotePath(uri=where, access=self.secret()), leash)

    @property
    def tuned(self) -> dict[str, Stored]:
        """The objects of copies, by their names below the folder of the artifact."""
        found = self.service.buckets["models"].items()
        return {name.split("/", 2)[2]: stored for name, stored in found if name.startswith("tuned/")}


@pytest.fixture
def storage(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    # The service of these tests is on this machine, which is out of reach otherwise.
    monkeypatch.setattr(models, "Leash", lambda: LOOSE)
    monkeypatch.setattr(data, "Leash", lambda: LOOSE)
    with gs_server(tmp_path) as service:
        for path in base.iterdir():
            service.put("models", f"acme/tiny/{path.name}", path.read_bytes())
        service.put("models", "acme/tiny/training_args.bin", b"\x80\x02pickle")
        service.put("models", "acme/tiny/runs/events.json", b"{}")
        yield Storage(service, tmp_path)


@dataclass
class Fetching:
    """A job whose base and data are in the service."""

    job: Job
    storage: Storage

    def run(self, uri: str = "gs://models/acme/tiny", access: Access | None = None, **more: Any) -> PrepareRun:
        cache = MountedPath(uri="pvc://bases", path=str(self.storage.root / "bases"))
        model = ModelInput(uri=uri, cache=cache, access=access or self.storage.secret())
        return self.job.prepare_run().model_copy(update={"model": model, **more})

    def prepared(self, **more: Any) -> RunResult:
        return self.job.do(self.run(**more))


@pytest.fixture
def fetching(job: Job, storage: Storage) -> Fetching:
    return Fetching(job, storage)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / "0123abcd"
    (folder / "held-out").mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(os.urandom(1000))
    (folder / "held-out" / "rows.jsonl").write_bytes(b"{}\n")
    (folder / MANIFEST_FILE).write_bytes(b'{"files": {}}')
    return folder


def test_a_model_and_its_data_are_fetched(fetching: Fetching, base: Path) -> None:
    rows = fetching.job.source.read_bytes()
    fetching.storage.service.put("models", "data/rows.jsonl", rows)
    source = SourceInput(uri="gs://models/data/rows.jsonl", access=fetching.storage.secret())
    result = fetching.prepared(sources=[source])
    assert result.prepare is not None, result.message
    digest = base_model_digest(base)
    assert result.prepare.model.digest == digest
    assert result.prepare.resolved.to_json() == {"model": digest, "sources": [digest_of_bytes(rows)]}
    (folder,) = (fetching.storage.root / "bases").iterdir()
    assert {p.name for p in folder.iterdir()} == {p.name for p in base.iterdir()} | {SOURCE_FILE}
    assert set(fetching.storage.service.scopes) == {READ}


def test_a_model_that_changed_gets_another_folder(fetching: Fetching) -> None:
    first, service = fetching.prepared(), fetching.storage.service
    service.asked.clear()
    assert fetching.prepared() == first
    assert "media" not in service.asked
    service.put("models", "acme/tiny/config.json", service.buckets["models"]["acme/tiny/config.json"].content + b"\n")
    second = fetching.prepared()
    assert first.prepare is not None
    assert second.prepare is not None
    assert first.prepare.model.uri != second.prepare.model.uri


@pytest.mark.parametrize(
    ("uri", "reason", "sentence"),
    [
        ("gs://models/acme/none", "SourceNotFound", "there is nothing at gs://models/acme/none at https://127"),
        ("gs://nobodys/tiny", "SourceNotFound", "there is nothing at gs://nobodys/tiny"),
        ("gs://closed/tiny", "SourceNotReadable", "may not be read with the keys of Secret 'store' (it answered 403"),
    ],
    ids=["no such folder", "no such bucket", "no role"],
)
def test_what_goes_wrong_is_said(fetching: Fetching, uri: str, reason: str, sentence: str) -> None:
    fetching.storage.service.put("closed", "tiny/config.json", b"{}")
    fetching.storage.service.closed.add("closed")
    result = fetching.prepared(uri=uri)
    assert (result.reason, result.retryable) == (reason, False), result.message
    assert sentence in result.message


OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
METADATA = "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token"


@pytest.mark.parametrize(
    ("key", "reason", "sentence"),
    [
        (lambda uri: key_file(uri, OTHER), "SourceNotReadable", "(invalid_grant: Invalid JWT Signature.): check keys"),
        (lambda _: "not json", "SecretUnusable", f"key {KEY} of Secret 'store' is not JSON: write it anew with gcloud"),
        (lambda _: "[]", "SecretUnusable", "is not JSON"),
        (
            lambda uri: key_file(uri, type="authorized_user", refresh_token="r", client_id="c", client_secret="s"),
            "SecretUnusable",
            "is not the key of a service account (type service_account), and no other kind is used",
        ),
        (
            lambda uri: key_file(
                uri, type="external_account", credential_source={"executable": {"command": "touch /tmp/x"}}
            ),
            "SecretUnusable",
            "no other kind is used",
        ),
        (lambda _: key_file("https://tokens.test/token"), "SecretUnusable", "for tokens to another server than Google"),
        (lambda _: key_file(METADATA), "SecretUnusable", "for tokens to another server than Google's"),
        (lambda uri: key_file(uri.replace("://", "://tokens.test@")), "SecretUnusable", "for tokens to another server"),
        (lambda uri: key_file([uri]), "SecretUnusable", "for tokens to another server than Google's"),
        (lambda uri: key_file(uri, universe_domain="cloud.test"), "SecretUnusable", "is for another cloud than"),
        (lambda uri: key_file(uri, client_email=None), "SecretUnusable", "has no client_email"),
        (lambda uri: key_file(uri, private_key="rubbish"), "SecretUnusable", "has a private_key that cannot be read"),
        (lambda uri: key_file(uri, private_key=["rubbish"]), "SecretUnusable", "has a private_key that cannot be read"),
    ],
)
def test_keys_that_are_not_used(storage: Storage, key: Callable[[str], str], reason: str, sentence: str) -> None:
    with pytest.raises(UserMistake) as refused:
        storage.folder(access=storage.secret(key(storage.service.token_uri))).files()
    assert refused.value.reason == reason, refused.value.message
    assert sentence in refused.value.message
    assert "rubbish" not in refused.value.message
    assert set(storage.service.asked) <= {"token"}


def test_a_secret_of_another_service_is_said(storage: Storage) -> None:
    with pytest.raises(UserMistake, match=f"Secret 'store' has no key {KEY}; it has AWS_ACCESS_KEY_ID, ca.crt"):
        storage.folder(access=storage.secret(None, AWS_ACCESS_KEY_ID="a"))


def test_no_token_is_sent_without_encryption(storage: Storage) -> None:
    access = storage.secret().model_copy(update={"endpoint": "http://storage.test"})
    with pytest.raises(
        UserMistake, match=r"no token is sent to http://storage\.test, which is not encrypted"
    ) as refused:
        storage.folder(access=access)
    assert refused.value.reason == "SourceNotAllowed"


def test_what_is_public_needs_no_key(storage: Storage) -> None:
    storage.service.public.add("models")
    folder = storage.folder(access=storage.secret(None))
    (config,) = (f for f in folder.files() if f.name == "config.json")
    folder.fetch(config, storage.root / "config.json")
    assert "token" not in storage.service.asked


def test_what_is_not_public_is_not_read_by_anybody(storage: Storage) -> None:
    with pytest.raises(UserMistake, match="may not be read by anybody: check keys and roles") as refused:
        storage.folder(access=storage.secret(None)).files()
    assert refused.value.reason == "SourceNotReadable"


def test_nothing_comes_from_the_environment(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    trapped: list[str] = []
    seen: list[str] = []
    (storage.root / "key.json").write_text(key_file(storage.service.token_uri))
    with https_server(storage.root, {}) as trap:
        trap.default = lambda request: trapped.append(request.path)
        address = trap.url.removeprefix("https://")
        settings = {
            "GOOGLE_APPLICATION_CREDENTIALS": str(storage.root / "key.json"),
            "GOOGLE_CLOUD_PROJECT": "theirs",
            "STORAGE_EMULATOR_HOST": trap.url,
            "API_ENDPOINT_OVERRIDE": trap.url,
            "GCE_METADATA_HOST": address,
            "HTTPS_PROXY": f"http://{address}",
            "https_proxy": f"http://{address}",
            "REQUESTS_CA_BUNDLE": "/nowhere",
            "GOOGLE_SDK_EXPERIMENTAL_PYTHON_REGIONAL_ACCESS_BOUNDARY_LOOKUP_ENABLED": "true",
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        leash = Leash(timeout_seconds=5, is_forbidden=lambda host: seen.append(host) or False)
        assert storage.folder(leash=leash).files()
        with pytest.raises(UserMistake, match="may not be read by anybody"):
            storage.folder(access=storage.secret(None, "anybody"), leash=leash).files()
        time.sleep(0.5)  # a thread of the client would have asked by now
    assert trapped == []
    assert set(seen) == {"127.0.0.1"}
    assert set(storage.service.asked) == {"token", "get", "list"}


def test_the_node_itself_is_no_service(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "Leash", Leash)
    result = fetching.prepared()
    assert (result.reason, result.retryable) == ("SourceNotAllowed", False)
    assert "leads to 127.0.0.1, an address of the node itself" in result.message


def test_a_service_that_is_not_there_may_be_tried_again(storage: Storage) -> None:
    storage.service.public.add("models")
    access = storage.secret(None).model_copy(update={"endpoint": "https://127.0.0.1:1"})
    with pytest.raises(Unavailable, match=r"gs://models/acme/tiny at https://127\.0\.0\.1:1 could not be reached"):
        storage.folder(access=access).files()


@pytest.mark.parametrize("key", [None, ""], ids=["of the service", "of the server of tokens"])
def test_an_unknown_authority_is_not_trusted(storage: Storage, key: str | None) -> None:
    access = storage.secret(key)
    (Path(access.credentials or "") / "ca.crt").unlink()
    if key is None:
        access = Access(endpoint=storage.service.url)
    with pytest.raises(UserMistake, match=r"is not trusted: .*; put its authority into key ca\.crt") as refused:
        storage.folder(access=access).files()
    assert refused.value.reason == "SourceNotTrusted"
    assert storage.service.asked == []


def test_what_passes_is_tried_again(storage: Storage) -> None:
    storage.service.failures = {"token": [503], "get": [503, 429], "list": [429], "media": [503, 502]}
    folder = storage.folder(leash=PATIENT)
    (config,) = (f for f in folder.files() if f.name == "config.json")
    folder.fetch(config, storage.root / "config.json")
    assert storage.service.failures == {"token": [], "get": [], "list": [], "media": []}
    assert json.loads((storage.root / "config.json").read_bytes())


@pytest.mark.parametrize(("kind", "code"), [("list", 429), ("media", 503), ("token", 503)])
def test_what_does_not_pass_may_be_tried_later(storage: Storage, kind: str, code: int) -> None:
    storage.service.failures = {kind: [code] * 1000}

    def fetched() -> None:
        folder = storage.folder()
        folder.fetch(folder.files()[0], storage.root / "file")

    with pytest.raises(Unavailable) as failed:
        fetched()
    assert failed.value.reason == "SourceUnavailable"
    assert "upload_id" not in failed.value.message
    if kind != "token":
        assert f"(it answered {code}: said by the test)" in failed.value.message
    assert not list(storage.root.glob("*file*"))


def test_a_token_that_has_run_out_is_renewed(storage: Storage) -> None:
    folder = storage.folder()
    folder.files()
    storage.service._tokens.clear()
    assert folder.files()
    assert storage.service.asked.count("token") == 2


def weights(storage: Storage) -> tuple[gs.Folder, Any]:
    storage.service.put("models", "acme/tiny/large.safetensors", bytes(range(256)) * 1000)
    folder = storage.folder()
    (found,) = (f for f in folder.files() if f.name == "large.safetensors")
    return folder, found


def test_what_broke_off_goes_on_where_it_was(storage: Storage) -> None:
    folder, found = weights(storage)
    storage.service.cuts = [100_000, 50_000]
    folder.fetch(found, storage.root / "file")
    assert (storage.root / "file").read_bytes() == bytes(range(256)) * 1000
    assert storage.service.asked.count("media") == 3


@pytest.mark.parametrize("cuts", [[], [100_000]], ids=["in one piece", "in two"])
def test_what_arrives_damaged_is_not_kept(storage: Storage, cuts: list[int]) -> None:
    folder, found = weights(storage)
    storage.service.spoil_sent, storage.service.cuts = b"spoilt", cuts
    with pytest.raises(Unavailable, match=r"large\.safetensors arrived damaged: its CRC32C is"):
        folder.fetch(found, storage.root / "file")
    assert not list(storage.root.glob("*file*"))


def test_what_is_longer_than_announced_is_not_taken(storage: Storage) -> None:
    folder, found = weights(storage)
    storage.service.spoil_sent = b"x" * 300_000
    with pytest.raises(Unavailable, match="sends more than the 256000 bytes it announced"):
        folder.fetch(found, storage.root / "file")
    assert not list(storage.root.glob("*file*"))


def test_what_changed_since_it_was_listed_is_not_taken(storage: Storage) -> None:
    folder, found = weights(storage)
    storage.service.put("models", "acme/tiny/large.safetensors", bytes(256_000))
    with pytest.raises(Unavailable, match=r"large\.safetensors changed while it was fetched"):
        folder.fetch(found, storage.root / "file")


def test_what_is_stored_packed_arrives_packed(storage: Storage) -> None:
    packed = gzip.compress(b"[]" * 1000)
    storage.service.put("models", "data/rows.json.gz", packed, "gzip")
    folder = storage.folder("data/rows.json.gz")
    (found,) = folder.files()
    folder.fetch(found, storage.root / "file")
    assert (storage.root / "file").read_bytes() == packed


def test_data_that_is_too_large_is_not_fetched(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "Leash", lambda: Leash(max_bytes=10, is_forbidden=lambda _: False))
    fetching.storage.service.put("models", "data/rows.jsonl", b"x" * 11)
    source = SourceInput(uri="gs://models/data/rows.jsonl", access=fetching.storage.secret())
    result = fetching.prepared(sources=[source], model=fetching.job.prepare_run().model)
    assert (result.reason, result.retryable) == ("SourceTooLarge", False), result.message
    assert "media" not in fetching.storage.service.asked


def test_names_that_lead_elsewhere_are_no_files(storage: Storage) -> None:
    before = {f.name for f in storage.folder().files()}
    storage.service.listed_too = [
        "acme/tiny/../../evil.safetensors",
        "acme/tiny/a/evil.safetensors",
        "acme/tiny/",
        "evil.safetensors",
        "/etc/evil.safetensors",
    ]
    assert {f.name for f in storage.folder().files()} == before


def test_another_server_is_not_asked(storage: Storage, artifact: Path) -> None:
    asked: list[str] = []
    (artifact / "adapter_model.safetensors").write_bytes(bytes(9_000_000))
    with https_server(storage.root, {}) as elsewhere:
        elsewhere.default = lambda request: asked.append(request.path)
        storage.service.sessions_at = elsewhere.url
        with pytest.raises(UserMistake, match="leads to another server, which is not asked") as refused:
            storage.mirrored(artifact)
        assert refused.value.reason == "OutputNotAllowed"
        storage.service.server.default = status(302, f"{elsewhere.url}/storage/v1/b/models/o/x")
        storage.service.public.add("models")
        with pytest.raises(UserMistake, match="leads to another server") as refused:
            storage.folder(access=storage.secret(None, "anybody")).files()
        assert refused.value.reason == "SourceNotAllowed"
    assert asked == []


def test_what_is_no_storage_is_said(storage: Storage) -> None:
    storage.service.server.default = lambda request: request.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n<html>")
    with pytest.raises(Unavailable, match="could not be reached"):
        storage.folder(access=storage.secret(None)).files()


def test_the_artifact_is_copied_whole_and_once(storage: Storage, artifact: Path) -> None:
    assert storage.mirrored(artifact) == "gs://models/tuned/0123abcd"
    files = {p.relative_to(artifact).as_posix(): p.read_bytes() for p in artifact.rglob("*") if p.is_file()}
    before = storage.tuned
    assert {name: stored.content for name, stored in before.items()} == files
    assert max(before, key=lambda name: before[name].generation) == MANIFEST_FILE
    assert set(storage.service.scopes) == {WRITE}
    assert storage.mirrored(artifact) == "gs://models/tuned/0123abcd"
    assert storage.tuned == before


def test_a_copy_that_was_cut_off_is_made_whole(storage: Storage, artifact: Path) -> None:
    storage.mirrored(artifact)
    before = storage.tuned
    for name in (MANIFEST_FILE, "adapter_model.safetensors"):
        del storage.service.buckets["models"][f"tuned/0123abcd/{name}"]
    storage.mirrored(artifact)
    assert storage.tuned.keys() == before.keys()
    assert storage.tuned["held-out/rows.jsonl"] == before["held-out/rows.jsonl"]


def test_another_artifact_of_that_name_is_left_alone(storage: Storage, artifact: Path) -> None:
    storage.service.put("models", f"tuned/0123abcd/{MANIFEST_FILE}", b"{}")
    with pytest.raises(UserMistake) as refused:
        storage.mirrored(artifact)
    assert refused.value.reason == "OutputOccupied"
    assert storage.tuned.keys() == {MANIFEST_FILE}


def test_a_manifest_that_arrives_damaged_is_not_another_artifact(storage: Storage, artifact: Path) -> None:
    storage.mirrored(artifact)
    storage.service.spoil_sent = b"spoilt"
    with pytest.raises(Unavailable, match=r"anneal-manifest\.json arrived damaged: its CRC32C is"):
        storage.mirrored(artifact)
    storage.service.spoil_sent = b""
    assert storage.mirrored(artifact) == "gs://models/tuned/0123abcd"


def test_a_manifest_that_is_replaced_while_it_is_read_may_be_read_again(storage: Storage, artifact: Path) -> None:
    storage.mirrored(artifact)
    manifest, name = storage.tuned[MANIFEST_FILE].content, f"tuned/0123abcd/{MANIFEST_FILE}"
    meanwhile("alt=media", storage, lambda: storage.service.put("models", name, manifest))
    with pytest.raises(Unavailable, match=r"anneal-manifest\.json changed while it was fetched") as failed:
        storage.mirrored(artifact)
    assert failed.value.reason == "OutputUnavailable"
    storage.service.server.default = storage.service.answer
    assert storage.mirrored(artifact) == "gs://models/tuned/0123abcd"


def test_a_copy_that_may_not_be_written(storage: Storage, artifact: Path) -> None:
    storage.service.put("closed", "x", b"")
    storage.service.closed.add("closed")
    with pytest.raises(UserMistake, match="may not be written with the keys of Secret 'store'") as refused:
        storage.mirrored(artifact, where="gs://closed/tuned")
    assert refused.value.reason == "OutputNotWritable"
    with pytest.raises(UserMistake, match="there is nothing at gs://nobodys/tuned") as refused:
        storage.mirrored(artifact, where="gs://nobodys/tuned")
    assert refused.value.reason == "OutputNotFound"


def test_a_large_file_goes_in_parts_that_are_tried_again(storage: Storage, artifact: Path) -> None:
    (artifact / "adapter_model.safetensors").write_bytes(os.urandom(1024) * (LARGE // 1024))
    storage.service.failures = {"start": [503], "part": [503, 429]}
    storage.mirrored(artifact, leash=PATIENT)
    assert storage.service.asked.count("part") == 4
    assert storage.tuned["adapter_model.safetensors"].content == (artifact / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("size", [1000, LARGE], ids=["in one request", "in parts"])
@pytest.mark.parametrize("failing", ["damaged", "unavailable"])
def test_an_upload_that_fails_leaves_no_object(storage: Storage, artifact: Path, size: int, failing: str) -> None:
    (artifact / "adapter_model.safetensors").write_bytes(os.urandom(size))
    if failing == "damaged":
        storage.service.spoil_received = b"spoilt"
    else:
        storage.service.failures = {"multipart": [503] * 1000, "part": [503] * 1000}
    with pytest.raises(TrainerError) as failed:
        storage.mirrored(artifact)
    assert (failed.value.reason, failed.value.retryable) == ("OutputUnavailable", True)
    assert "upload_id" not in failed.value.message
    assert storage.tuned == {}


def test_a_killed_upload_leaves_no_object_and_is_made_whole_later(storage: Storage, artifact: Path) -> None:
    (artifact / "adapter_model.safetensors").write_bytes(os.urandom(LARGE))
    storage.service.parts = 1
    access = storage.secret().to_json()
    program = (
        "import json, sys; from pathlib import Path\n"
        "from anneal.api.runs import Access, RemotePath; from anneal_trainer.publish.mirror import mirrored\n"
        "from anneal_trainer.sources import Leash\n"
        "where = RemotePath(uri='gs://models/tuned', access=Access.model_validate(json.loads(sys.argv[2])))\n"
        "mirrored(Path(sys.argv[1]), where, Leash(timeout_seconds=60, is_forbidden=lambda _: False))\n"
    )
    uploading = subprocess.Popen(
        [sys.executable, "-c", program, str(artifact), json.dumps(access)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    try:
        deadline = time.monotonic() + 60
        while "silence" not in storage.service.asked and time.monotonic() < deadline and uploading.poll() is None:
            time.sleep(0.02)
        assert "silence" in storage.service.asked
    finally:
        uploading.send_signal(signal.SIGKILL)
        uploading.wait()
    assert storage.tuned == {}
    storage.service.parts = None
    storage.mirrored(artifact)
    assert storage.tuned["adapter_model.safetensors"].content == (artifact / "adapter_model.safetensors").read_bytes()


def meanwhile(what: str, storage: Storage, happens: Callable[[], None]) -> None:
    """Lets something happen whenever a request with `what` in its path has come, and before it is looked at."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        if what in request.path:
            happens()
        storage.service.answer(request)

    storage.service.server.default = answer


def test_what_somebody_else_writes_meanwhile_is_left_alone(storage: Storage, artifact: Path) -> None:
    theirs = f"tuned/0123abcd/{MANIFEST_FILE}"
    (artifact / "adapter_model.safetensors").unlink()
    (artifact / "held-out" / "rows.jsonl").unlink()
    meanwhile("uploadType=", storage, lambda: storage.service.put("models", theirs, b"theirs"))
    with pytest.raises(Unavailable, match=f"{MANIFEST_FILE} was written by somebody else meanwhile"):
        storage.mirrored(artifact)
    assert storage.tuned[MANIFEST_FILE].content == b"theirs"


def test_an_upload_whose_answer_was_lost_has_succeeded(storage: Storage, artifact: Path) -> None:
    def first_try() -> None:
        for path in (p for p in artifact.rglob("*") if p.is_file()):
            storage.service.put("models", f"tuned/0123abcd/{path.relative_to(artifact).as_posix()}", path.read_bytes())

    meanwhile("uploadType=", storage, first_try)
    storage.mirrored(artifact)
    assert storage.tuned[MANIFEST_FILE].content == (artifact / MANIFEST_FILE).read_bytes()
