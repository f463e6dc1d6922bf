"""Keys and passwords in data: a model that has learned one will tell it to whoever asks.

Only shapes that well known services give to their keys, so that what is found is a key and not a word: each begins with
a mark that is looked for first, which makes the search cost next to nothing on rows that have none.
"""

from __future__ import annotations

import re

#: (mark, what it is, shape), in the services' own documentation of their formats.
_SHAPES = tuple(
    (mark, what, re.compile(shape))
    for mark, what, shape in (
        ("PRIVATE KEY", "a private key", r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY"),
        ("AKIA", "an AWS access key", r"(?<![A-Z0-9])AKIA(?![A-Z0-9]{9}EXAMPLE)[A-Z0-9]{16}(?![A-Z0-9])"),
        ("ASIA", "an AWS access key", r"(?<![A-Z0-9])ASIA[A-Z0-9]{16}(?![A-Z0-9])"),
        ("AIza", "a Google API key", r"(?<![\w-])AIza[\w-]{35}(?![\w-])"),
        ("sk-ant-", "an Anthropic API key", r"(?<![\w-])sk-ant-[\w-]{20,200}"),
        ("sk-", "an OpenAI API key", r"(?<![\w-])sk-(?:proj-|svcacct-)?[A-Za-z0-9_]{20,200}"),
        ("hf_", "a Hugging Face token", r"(?<!\w)hf_[A-Za-z0-9]{30,60}(?!\w)"),
        ("gh", "a GitHub token", r"(?<!\w)gh[pousr]_[A-Za-z0-9]{36,255}(?!\w)"),
        ("github_pat_", "a GitHub token", r"(?<!\w)github_pat_\w{22,255}"),
        ("glpat-", "a GitLab token", r"(?<![\w-])glpat-[\w-]{20,64}"),
        ("xox", "a Slack token", r"(?<!\w)xox[abeoprs]-[A-Za-z0-9-]{10,250}"),
        ("k_live_", "a Stripe key", r"(?<!\w)[rs]k_live_[A-Za-z0-9]{16,250}"),
        ("npm_", "an npm token", r"(?<!\w)npm_[A-Za-z0-9]{36}(?!\w)"),
        ("pypi-", "a PyPI token", r"(?<![\w-])pypi-AgE[\w-]{50,250}"),
        ("vncy_", "a Vincony key", r"(?<!\w)vncy_\w{16,250}"),
        ("eyJ", "a signed token (JWT)", r"(?<![\w-])eyJ[\w-]{10,4000}\.eyJ[\w-]{10,4000}\.[\w-]{10,1000}"),
        ("://", "a URL with a password", r"://[^\s/:@\[\]]{1,100}:[^\s/:@]{3,200}@[\w.-]"),
    )
)


def find(text: str) -> str | None:
    """What kind of secret is in `text`, or None."""
    return next((what for mark, what, shape in _SHAPES if mark in text and shape.search(text)), None)
