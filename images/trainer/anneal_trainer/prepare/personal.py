"""Data that points to a person, by its shape: e-mail addresses, phone numbers, card numbers and IBANs.

Names and addresses have no shape; what finds them is a model of its own and makes mistakes of its own. Numbers with
check digits are checked, so that an order number is not taken for a card.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Each shape begins only where no character of the shape is before it, so that long runs of one are walked through once.
_EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,6}\.[^\W\d_]{2,24}")
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")
_PHONE = re.compile(
    r"(?<![\w+])(?:\+[1-9]\d{0,2}[ .-]?(?:\(\d{1,5}\)[ .-]?)?\d{1,5}(?:[ .-]?\d{2,5}){1,5}"
    r"|\(\d{3}\) ?\d{3}[.-]\d{4}|\d{3}[.-]\d{3}[.-]\d{4})(?![\w-])"
)
_DIGITS = re.compile(r"\d{2}")


@dataclass(frozen=True)
class Span:
    """Where something personal is in a text, and what."""

    start: int
    end: int
    kind: str


def find(text: str) -> list[Span]:
    """What is personal in `text`, from left to right, without overlaps."""
    if "@" not in text and not _DIGITS.search(text):
        return []
    spans: list[Span] = []
    for span in sorted(_all(text), key=lambda s: (s.start, -s.end)):
        if not spans or span.start >= spans[-1].end:
            spans.append(span)
    return spans


def _all(text: str) -> Iterator[Span]:
    if "@" in text:
        yield from (Span(*m.span(), "EMAIL") for m in _EMAIL.finditer(text))
    if _DIGITS.search(text):
        yield from (Span(*m.span(), "IBAN") for m in _IBAN.finditer(text) if _is_iban(m[0]))
        yield from (Span(*m.span(), "CARD") for m in _CARD.finditer(text) if _is_card(m[0]))
        yield from (Span(*m.span(), "PHONE") for m in _PHONE.finditer(text) if 8 <= _digits(m[0]) <= 15)


def redacted(text: str, spans: Sequence[Span]) -> str:
    """`text` with each span replaced by its kind in brackets."""
    pieces, at = [], 0
    for span in spans:
        pieces += [text[at : span.start], f"[{span.kind}]"]
        at = span.end
    return "".join([*pieces, text[at:]])


def _digits(text: str) -> int:
    return sum(letter.isdigit() for letter in text)


def _is_card(text: str) -> bool:
    """The Luhn check digit of ISO/IEC 7812: every second digit from the right, doubled, counts its digits' sum."""
    digits = [int(letter) for letter in reversed(text) if letter.isdigit()]
    doubled = (sum(divmod(2 * d, 10)) if i % 2 else d for i, d in enumerate(digits))
    return len(set(digits)) > 1 and sum(doubled) % 10 == 0


def _is_iban(text: str) -> bool:
    """The check digits of ISO 13616: with the first four characters last and letters as 10 … 35, 1 modulo 97."""
    compact = text.replace(" ", "")
    moved = compact[4:] + compact[:4]
    return 15 <= len(compact) <= 34 and int("".join(str(int(c, 36)) for c in moved)) % 97 == 1
