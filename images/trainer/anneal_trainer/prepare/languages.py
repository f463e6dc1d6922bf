"""Which language a text is in, where that can be told: what is too short, or no language at all, stays undecided.

By py3langid, whose model lies in its package; see ADR 16 for why, and for what the threshold is worth.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

#: How sure it must be. From here on one decision in a thousand is wrong, for texts of twenty letters and more.
CONFIDENCE = 0.9
#: More letters take longer and tell no more.
_LETTERS = 256


def off(texts: Collection[str], wanted: Collection[str]) -> str | None:
    """The language of the first text that is in none of `wanted`; '' where that of none can be told, else None."""
    found = [language for text in texts if (language := language_of(text)) is not None]
    return next((language for language in found if language not in wanted), None if found else "")


def language_of(text: str) -> str | None:
    """The ISO 639 code of a text's language, or None where it cannot be told."""
    language, confidence = _identifier().classify(text[:_LETTERS])
    return str(language) if confidence >= CONFIDENCE and language != "zxx" else None


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
