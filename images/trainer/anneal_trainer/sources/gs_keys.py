"""Who asks Google Cloud Storage: the service account whose key a Secret holds, or nobody.

A key file is a tenant's, and may name any server to get tokens from. Four of its entries are used, and nothing else of
it: other kinds of such files make the client run programs, read files or ask the node's metadata service.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from anneal_trainer.errors import UserMistake
from anneal_trainer.sources.credentials import Credentials
from anneal_trainer.sources.gs_errors import Deed

#: The entry of the Secret, named as KServe names it.
KEY = "gcloud-application-credentials.json"
_TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address, not a token
#: Where older keys say that Google's tokens come from.
_TOKEN_URIS = (_TOKEN_URI, "https://accounts.google.com/o/oauth2/token")
_UNIVERSE = "googleapis.com"
_SCOPES = {
    "Source": "https://www.googleapis.com/auth/devstorage.read_only",
    "Output": "https://www.googleapis.com/auth/devstorage.read_write",
}


@dataclass(frozen=True)
class Keys:
    """What requests are made with."""

    used: Any = field(repr=False)
    token_uri: str | None
    """Where tokens come from; None: none are needed."""


def keys(credentials: Credentials, server: str, deed: Deed) -> Keys:
    """The keys of the Secret, good for no more than the deed; none without one. Raises UserMistake."""
    from google.auth.credentials import AnonymousCredentials
    from google.oauth2.service_account import Credentials as ServiceAccount

    credentials.need(KEY)
    content = credentials.get(KEY)
    if content is None:
        return Keys(AnonymousCredentials(), None)
    if not server.startswith("https://"):
        raise UserMistake(f"{deed}NotAllowed", f"no token is sent to {server}, which is not encrypted: use https")
    found = _parsed(content, credentials.secret)
    token_uri = found.get("token_uri", _TOKEN_URI)
    if token_uri not in _TOKEN_URIS and not _is_at(token_uri, server):
        raise _unusable(credentials.secret, f"sends for tokens to another server than Google's ({_TOKEN_URI})")
    if found.get("universe_domain", _UNIVERSE) != _UNIVERSE:
        raise _unusable(credentials.secret, f"is for another cloud than {_UNIVERSE}")
    try:
        used = ServiceAccount.from_service_account_info(
            {
                "client_email": found["client_email"],
                "private_key": found["private_key"],
                "private_key_id": found.get("private_key_id"),
                "token_uri": token_uri,
            },
            scopes=[_SCOPES[deed]],
        )
    except KeyError as error:
        raise _unusable(credentials.secret, f"has no {error.args[0]}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise _unusable(credentials.secret, "has a private_key that cannot be read") from error
    return Keys(used, token_uri)


def _parsed(content: str, secret: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _unusable(secret, "is not JSON")
    if found.get("type") != "service_account":
        raise _unusable(secret, "is not the key of a service account (type service_account), and no other kind is used")
    return found


def _is_at(url: object, server: str) -> bool:
    """Whether a URL is one of this server."""
    if not isinstance(url, str):
        return False
    theirs, its = urlsplit(url), urlsplit(server)
    return (theirs.scheme, theirs.netloc) == (its.scheme, its.netloc)


def _unusable(secret: str, what: str) -> UserMistake:
    return UserMistake(
        "SecretUnusable",
        f"key {KEY} of Secret '{secret}' {what}: write it anew with gcloud iam service-accounts keys create",
    )
