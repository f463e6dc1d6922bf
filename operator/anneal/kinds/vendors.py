"""Who made a model, by its name: models prefer answers of their own family, so they grade none of it."""

from __future__ import annotations

import re
from collections.abc import Mapping

_VENDORS = {
    "OpenAI": ("gpt", "chatgpt", "o1", "o3", "o4", "davinci"),
    "Anthropic": ("claude",),
    "Google": ("gemini", "gemma", "palm"),
    "Meta": ("llama", "codellama"),
    "Alibaba": ("qwen", "qwq"),
    "Mistral": ("mistral", "mixtral", "ministral", "codestral", "magistral", "devstral"),
    "DeepSeek": ("deepseek",),
    "xAI": ("grok",),
    "Microsoft": ("phi",),
    "Cohere": ("command", "aya"),
    "Hugging Face": ("smollm", "zephyr"),
}


def vendor_of(model: str) -> str:
    """The maker of the model with this name or URI, or the first word of the name where it is not known."""
    name = model.rstrip("/").rpartition("/")[2].partition(":")[0].lower()
    for vendor, families in _VENDORS.items():
        if any(re.match(rf"(meta-)?{family}(?![a-z])", name) for family in families):
            return vendor
    return re.split(r"[^a-z]", name)[0] or name


def kin_of(judge: str, contestants: Mapping[str, str]) -> str | None:
    """Who of `contestants`, whose models are told by their names, is of the judge's family; None when nobody is."""
    return next((name for name, model in contestants.items() if vendor_of(model) == vendor_of(judge)), None)
