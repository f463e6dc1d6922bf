"""Which chat template a model is taught with: its own, or ours where its own is made for asking only.

Templates that models are published with are for inference: that of Mistral Small puts the date of the day into every
conversation without a system message, that of R1 throws the reasoning of every answer away. For such families there is
a template of ours that says which part is the answer ({% generation %}). It is chosen by what the tokenizer is: it has
the family's control tokens, and its own template, where it has one, puts the same question to the model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import TemplateError

#: For base models that have none: a heading a turn, and the end-of-sequence token after each answer.
DEFAULT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '### ' + message['role'] | capitalize + ':\\n' + message['content'] -}}"
    "{{- eos_token if message['role'] == 'assistant' -}}{{- '\\n\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '### Assistant:\\n' -}}{%- endif -%}"
)
_MARKS_ANSWERS = re.compile(r"\{%-?\s*generation\s*-?%\}")
_PROBE = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


@dataclass(frozen=True)
class _Family:
    """A template of ours and how a tokenizer of the family is known.

    Attributes:
        vocabulary: entries that a tokenizer of the family has.
        opens: what templates of the family may write behind the question for the model to begin with.
    """

    file: str
    vocabulary: tuple[str, ...]
    opens: str = ""


_FAMILIES = (
    # "Ġ" is a space in tokenizers of bytes, as Tekken is; older ones of Mistral separate parts of the prompt by spaces.
    _Family("mistral-v7-tekken.jinja", ("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[INST]", "[/INST]", "Ġ")),
    _Family("llama4.jinja", ("<|header_start|>", "<|header_end|>", "<|eot|>")),
    _Family(
        "deepseek-r1.jinja", ("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>", "<think>"), opens="<think>\n"
    ),
)


def marks_answers(template: str) -> bool:
    """Whether a template says which part of a conversation is the answer."""
    return _MARKS_ANSWERS.search(template) is not None


def training_template(tokenizer: Any) -> str:
    """The text of the template that a model with this tokenizer is taught with."""
    own: str | None = tokenizer.get_chat_template() if tokenizer.chat_template else None
    if own is not None and marks_answers(own):
        return own
    vocabulary = tokenizer.get_vocab()
    for family in _FAMILIES:
        if all(entry in vocabulary for entry in family.vocabulary):
            ours = files(__package__).joinpath("templates", family.file).read_text(encoding="utf-8")
            asked = _question(tokenizer, own) if own is not None else None
            if own is None or (asked or "").removesuffix(family.opens) == _question(tokenizer, ours):
                return ours
    return own or DEFAULT_TEMPLATE


def _question(tokenizer: Any, template: str) -> str | None:
    """How a template puts a question, or None when it refuses to."""
    try:
        return str(
            tokenizer.apply_chat_template(_PROBE, chat_template=template, tokenize=False, add_generation_prompt=True)
        )
    except TemplateError:
        return None
