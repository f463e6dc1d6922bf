"""What is done to the text of a row before anything is decided by it: one spelling of each letter, nothing invisible.

Two rows that look alike on the screen must be alike to what compares them, and to the tokenizer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from anneal.api.dataset import Cleaning
from anneal_trainer.prepare import personal, secrets
from anneal_trainer.prepare.formats import Message, RowError

#: Control characters but tab and line ends, and byte order marks, which end up inside of files that were joined.
_INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff]")


def clean(messages: Sequence[Message], wanted: Cleaning) -> tuple[list[Message], set[str]]:
    """The messages as they are used, and the flags of `DatasetStatus.flagged` that are true of them.

    Raises RowError for a row that may not be used, without saying what the secret is.
    """
    flags: set[str] = set()
    cleaned = []
    for number, message in enumerate(messages, start=1):
        text = message.content
        if wanted.unicode == "NFC" and (normal := normalized(text)) != text:
            flags.add("Normalized")
            text = normal
        if wanted.secrets == "Refuse" and (found := secrets.find(text)) is not None:
            raise RowError(f"message {number} has what looks like {found}: take it out, and revoke it")
        if wanted.personal_data != "Allow" and (spans := personal.find(text)):
            flags.add("PersonalData")
            if wanted.personal_data == "Redact":
                flags.add("Redacted")
                text = personal.redacted(text, spans)
        cleaned.append(message if text is message.content else replace(message, content=text))
    return cleaned, flags


def normalized(text: str) -> str:
    """`text` in Unicode's composed form (NFC), without what cannot be seen."""
    return text if text.isascii() and text.isprintable() else unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
