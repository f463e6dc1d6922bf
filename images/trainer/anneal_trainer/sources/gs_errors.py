"""What failures of Google's client amount to: it raises four families of errors, its own and those of its libraries."""

from __future__ import annotations

import ssl
from typing import Any, Literal

from anneal_trainer.errors import Unavailable, UserMistake
from anneal_trainer.sources.leash import forbidden_address_in

Deed = Literal["Source", "Output"]


def ours(error: Exception, deed: Deed, name: str, secret: str) -> UserMistake | Unavailable | None:
    """The error as one of ours; None when it is not about the service."""
    import requests
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

    if (refused := forbidden_address_in(error)) is not None:
        return UserMistake(refused.reason, f"{name}: {refused.message}")
    if isinstance(error, UserMistake):
        return error
    if (untrusted := _certificate_error_in(error)) is not None:
        return UserMistake(
            f"{deed}NotTrusted",
            f"the certificate of {name} is not trusted: {untrusted.verify_message}; put its authority into key ca.crt"
            " of the Secret",
        )
    if isinstance(error, requests.exceptions.InvalidSchema | requests.exceptions.TooManyRedirects):
        return UserMistake(f"{deed}NotAllowed", f"{name} leads to another server, which is not asked: name that one")
    if isinstance(error, api.NotFound):
        return UserMistake(f"{deed}NotFound", f"there is nothing at {name}: check the name")
    is_refused = isinstance(error, api.Forbidden | api.Unauthorized | auth.RefreshError | auth.InvalidOperation)
    if is_refused and not getattr(error, "retryable", False):
        who = f"with the keys of Secret '{secret}'" if secret else "by anybody"
        reason, done = ("SourceNotReadable", "read") if deed == "Source" else ("OutputNotWritable", "written")
        return UserMistake(reason, f"{name} may not be {done} {who}{_said(error)}: check keys and roles")
    theirs = (api.GoogleAPIError, auth.GoogleAuthError, requests.RequestException, DataCorruption, InvalidResponse)
    if isinstance(error, (*theirs, ConnectionError, ValueError, KeyError)):
        return Unavailable(f"{deed}Unavailable", f"{name} could not be reached{_said(error)}")
    return None


def _certificate_error_in(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """The refusal of a certificate that libraries wrapped, as a cause or as an argument of their own errors."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        inner = [a for a in (*error.args, getattr(error, "reason", None)) if isinstance(a, BaseException)]
        error = error.__cause__ or (inner[0] if inner else error.__context__)
    return error


def _said(error: BaseException) -> str:
    """What the service says of it, in brackets: never a URL, since that of an upload lets anybody write."""
    error = getattr(error, "cause", None) or error  # what tries came to in the end
    response: Any = getattr(error, "response", None)
    if response is None:
        words = str(error.args[0]) if type(error).__name__ == "RefreshError" and error.args else type(error).__name__
        return f" ({words[:200]})" if words != "InvalidOperation" else ""  # which is: nobody has no token to renew
    try:
        message = f": {response.json()['error']['message'][:200]}"
    except (ValueError, KeyError, TypeError):
        message = ""
    return f" (it answered {response.status_code}{message})"
