"""What is done to the text of a row before anything is decided by it: one spelling of each letter, nothing invisible.

Two rows that look alike on the screen must be alike to what compares them, and to the tokenizer.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from anneal.api.dataset import Cleaning
from anneal_trainer.prepare import personal, secrets
from anneal_trainer.prepare.chat import Message, RowError, canonical

#: Control characters but tab and line ends, and byte order marks, which end up inside of files that were joined.
_INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff]")


def clean(messages: Sequence[Message], tools: str, wanted: Cleaning) -> tuple[list[Message], set[str]]:
    """The messages as they are used, and the flags of `DatasetStatus.flagged` that are true of them.

    Raises RowError for a row that may not be used, without saying what the secret is.
    """
    flags: set[str] = set()
    if wanted.secrets == "Refuse":
        _refuse_secrets(tools, '"tools" has')
    cleaned = []
    for number, message in enumerate(messages, start=1):

        def change(text: str, who: str = f"message {number} has") -> str:
            return _cleaned(text, who, wanted, flags)

        calls = tuple(replace(c, arguments=canonical(_each(json.loads(c.arguments), change))) for c in message.calls)
        text = change(message.content)
        is_same = text is message.content and calls == message.calls
        cleaned.append(message if is_same else replace(message, content=text, calls=calls))
    return cleaned, flags


def _cleaned(text: str, who: str, wanted: Cleaning, flags: set[str]) -> str:
    if wanted.unicode == "NFC" and (normal := normalized(text)) != text:
        flags.add("Normalized")
        text = normal
    if wanted.secrets == "Refuse":
        _refuse_secrets(text, who)
    if wanted.personal_data != "Allow" and (spans := personal.find(text)):
        flags.add("PersonalData")
        if wanted.personal_data == "Redact":
            flags.add("Redacted")
            text = personal.redacted(text, spans)
    return text


def _refuse_secrets(text: str, who: str) -> None:
    if (found := secrets.find(text)) is not None:
        raise RowError(f"{who} what looks like {found}: take it out, and revoke it")


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """The JSON value with each of its texts changed; a number that is changed, such as that of a card, becomes text."""
    if isinstance(value, dict):
        return {key: _each(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [_each(inner, change) for inner in value]
    if isinstance(value, str):
        return change(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value if (text := change(str(value))) == str(value) else text
    return value


def normalized(text: str) -> str:
    """`text` in Unicode's composed form (NFC), without what cannot be seen."""
    return text if text.isascii() and text.isprintable() else unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
