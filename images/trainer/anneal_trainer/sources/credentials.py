"""The keys of a Secret, as the kubelet mounts them: one file a key, read when they are needed and never shown."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anneal_trainer.errors import UserMistake

CA_KEY = "ca.crt"


@dataclass(frozen=True)
class Credentials:
    """The keys of one Secret; none for a public source. Their values stay out of every representation."""

    secret: str
    values: Mapping[str, str] = field(repr=False)
    folder: Path | None = None

    @classmethod
    def read(cls, directory: str | None) -> Credentials:
        """The Secret mounted at `directory`. Raises UserMistake when a key is not text."""
        if directory is None:
            return cls("", {})
        folder = Path(directory)
        values = {}
        for path in folder.iterdir():
            if path.name.startswith(".."):
                continue  # what the kubelet swaps Secrets with
            try:
                values[path.name] = path.read_text(encoding="utf-8").strip()
            except UnicodeDecodeError as error:
                raise UserMistake(
                    "SecretUnusable", f"key {path.name} of Secret '{folder.name}' is not text: write it anew"
                ) from error
        return cls(folder.name, values, folder)

    def get(self, key: str) -> str | None:
        """The value of a key, or None."""
        return self.values.get(key) or None

    def need(self, *keys: str) -> None:
        """Raises UserMistake unless the Secret, if one was named for more than an authority, has these keys."""
        missing = [key for key in keys if not self.get(key)]
        if missing and self.secret and set(self.values) != {CA_KEY}:
            found = ", ".join(sorted(self.values)) or "no keys"
            raise UserMistake(
                "SecretUnusable", f"Secret '{self.secret}' has no key {missing[0]}; it has {found}: add the key"
            )

    def authorities(self) -> Path | None:
        """A file of the authorities of ca.crt, for libraries that take no context; None without that key."""
        return self.folder / CA_KEY if self.folder and self.get(CA_KEY) else None

    def tls(self) -> ssl.SSLContext:
        """Trust in the public authorities, and in those of the Secret's ca.crt. Raises UserMistake."""
        context = ssl.create_default_context()
        if ca := self.get(CA_KEY):
            try:
                context.load_verify_locations(cadata=ca)
            except ssl.SSLError as error:
                raise UserMistake(
                    "SecretUnusable",
                    f"key {CA_KEY} of Secret '{self.secret}' is not a certificate in PEM form: {error.reason}",
                ) from error
        return context
