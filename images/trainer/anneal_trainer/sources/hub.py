"""`hf://`: models and dataset files of a Hugging Face Hub, by huggingface_hub.

A branch is looked up once, to the commit that it names at that moment; everything is fetched from that commit. What
arrives is compared with the hash that the commit has for it, so neither a mirror nor a cache can slip something in.
The Xet transfer of huggingface_hub is left out: its sockets are not Python's, so no leash would hold them.
"""

from __future__ import annotations

import hashlib
import shutil
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from anneal.api.artifacts import digest_of_file
from anneal.api.references import HubFile, HubModel
from anneal_trainer import files
from anneal_trainer.errors import Unavailable, UserMistake
from anneal_trainer.sources.credentials import Credentials
from anneal_trainer.sources.leash import Leash, forbidden_address_in
from anneal_trainer.sources.place import RemoteFile

_BLOCK = 4 * 1024 * 1024
TOKEN_KEY = "HF_TOKEN"  # noqa: S105 - the name of a key, not a token


@dataclass(frozen=True)
class Repository:
    """A model repository, or one file of a dataset repository, at one commit."""

    where: HubModel | HubFile
    endpoint: str
    credentials: Credentials
    leash: Leash
    revision: str

    def files(self) -> list[RemoteFile]:
        """What the commit holds, with sizes and hashes."""
        with _session(self.where, self.endpoint, self.credentials, self.leash) as hub:
            if isinstance(self.where, HubFile):
                found = hub.get_paths_info(
                    self.where.repository, [self.where.path], revision=self.revision, repo_type="dataset"
                )
                if not found or not hasattr(found[0], "size"):
                    raise UserMistake(
                        "SourceNotFound",
                        f"{self.where.repository} has no file {self.where.path} at commit {self.revision}",
                    )
                return [RemoteFile(f.path, f.size, f.lfs.sha256 if f.lfs else f.blob_id) for f in found]
            info = hub.model_info(self.where.repository, revision=self.revision, files_metadata=True)
            return [
                RemoteFile(f.rfilename, f.size, (f.lfs.sha256 if f.lfs else f.blob_id) or "") for f in info.siblings
            ]

    def fetch(self, file: RemoteFile, target: Path) -> None:
        """Downloads from the commit and compares with its hash. Raises UserMistake or Unavailable."""
        aside = target.with_name(f".{target.name}.hub")
        try:
            with _session(self.where, self.endpoint, self.credentials, self.leash) as hub:
                path = hub.hf_hub_download(
                    self.where.repository,
                    file.name,
                    repo_type="dataset" if isinstance(self.where, HubFile) else "model",
                    revision=self.revision,
                    local_dir=aside,
                )
            _compare(Path(path), file, self.where.uri)
            files.sync(Path(path))
            Path(path).rename(target)
            files.sync(target.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def connect(
    where: HubModel | HubFile, endpoint: str, credentials: Credentials, leash: Leash, pinned: str | None
) -> Repository:
    """The repository at the commit that `pinned` says, or else that its revision names now."""
    credentials.need(TOKEN_KEY)
    if endpoint.startswith("http://") and credentials.get(TOKEN_KEY):
        raise UserMistake("SourceNotAllowed", f"no token is sent to {endpoint}, which is not encrypted: use https")
    if pinned is None:
        with _session(where, endpoint, credentials, leash) as hub:
            kind = "dataset" if isinstance(where, HubFile) else "model"
            pinned = hub.repo_info(where.repository, revision=where.revision, repo_type=kind).sha
    if not pinned:
        raise Unavailable("SourceUnavailable", f"{endpoint} names no commit for {where.uri}: is it a Hub?")
    return Repository(where, endpoint, credentials, leash, pinned)


@contextmanager
def _session(where: HubModel | HubFile, endpoint: str, credentials: Credentials, leash: Leash) -> Iterator[Any]:
    """huggingface_hub, set up for this Hub and held on the leash; its errors become ours."""
    from huggingface_hub import HfApi, constants, set_client_factory

    tls = credentials.tls()
    before = constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET = False, True
    set_client_factory(lambda: _client(endpoint, tls, leash))
    try:
        with leash.held():
            # False: without a token of ours, none is taken from anywhere else either.
            yield HfApi(endpoint=endpoint, token=credentials.get(TOKEN_KEY) or False)
    except (UserMistake, Unavailable):
        raise
    except Exception as error:
        ours = _ours(error, where, endpoint, credentials)
        if ours is None:
            raise
        raise ours from error
    finally:
        constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET = before


def _client(endpoint: str, tls: ssl.SSLContext, leash: Leash) -> Any:
    import httpx2

    def stay_encrypted(request: Any) -> None:
        if endpoint.startswith("https://") and request.url.scheme != "https":
            raise UserMistake("SourceNotAllowed", f"{endpoint} leads to {request.url.host} without encryption")

    return httpx2.Client(
        event_hooks={"request": [stay_encrypted]},
        follow_redirects=True,
        timeout=leash.timeout_seconds,
        verify=tls,
    )


def _ours(
    error: Exception, where: HubModel | HubFile, endpoint: str, credentials: Credentials
) -> UserMistake | Unavailable | None:
    """What a failure of huggingface_hub amounts to; None when it is not about the Hub."""
    import httpx2
    from huggingface_hub import errors

    name = f"{where.uri} at {endpoint}"
    if (refused := forbidden_address_in(error)) is not None:
        return UserMistake(refused.reason, f"{name}: {refused.message}")
    if (untrusted := _certificate_error_in(error)) is not None:
        return UserMistake(
            "SourceNotTrusted",
            f"the certificate of {endpoint} is not trusted: {untrusted.verify_message}; put its authority into key"
            " ca.crt of the source's Secret",
        )
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if isinstance(error, errors.GatedRepoError) or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        who = f"the token of Secret '{credentials.secret}'" if credentials.secret else "without a token (secretRef)"
        return UserMistake(
            "SourceNotReadable",
            f"{name} may not be read {'with ' if credentials.secret else ''}{who}, or does not exist: check the name,"
            " the token, and whether the model's licence was accepted",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return UserMistake("SourceNotFound", f"{name} has no branch, tag or commit '{where.revision}'")
    if status == HTTPStatus.NOT_FOUND:
        return UserMistake("SourceNotFound", f"{name} does not exist: check owner, name and revision")
    if isinstance(error, errors.HfHubHTTPError | httpx2.HTTPError | errors.FileMetadataError | FileNotFoundError):
        return Unavailable("SourceUnavailable", f"{name} could not be fetched: {_first_line(error)}")
    if isinstance(error, ValueError):
        return Unavailable("SourceUnavailable", f"{name} does not answer like a Hub: {_first_line(error)}")
    return None


def _certificate_error_in(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _compare(path: Path, file: RemoteFile, uri: str) -> None:
    """Raises Unavailable when the file is not the one that the commit holds."""
    size = path.stat().st_size
    found = digest_of_file(path).removeprefix("sha256:") if len(file.version) == 64 else _git_blob(path, size)
    if (file.size is not None and size != file.size) or (file.version and found != file.version):
        raise Unavailable(
            "SourceUnavailable", f"{file.name} of {uri} arrived damaged: its hash is {found}, not {file.version}"
        )


def _git_blob(path: Path, size: int) -> str:
    """The name that git gives to a file's content."""
    hasher = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            hasher.update(block)
    return hasher.hexdigest()
