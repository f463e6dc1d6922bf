"""From a conversation to tokens, with the loss on the answers only, by the model's own chat template.

Templates seldom say which part is the answer ({% generation %} is missing in most), so it is found by rendering
prefixes: what the template writes up to the point where the assistant begins to speak is exactly what a server sends to
the model, and what follows is exactly what the model has to say. That works for every template that only ever appends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from anneal_trainer.errors import UserMistake
from anneal_trainer.prepare.formats import Message, RowError

#: For base models that have none: a heading a turn, and the end-of-sequence token after each answer.
DEFAULT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '### ' + message['role'] | capitalize + ':\\n' + message['content'] -}}"
    "{{- eos_token if message['role'] == 'assistant' -}}{{- '\\n\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '### Assistant:\\n' -}}{%- endif -%}"
)


@dataclass(frozen=True)
class Rendered:
    """A conversation in tokens. `labelled[t]` says whether token t is learned; the first token never is."""

    tokens: list[int]
    labelled: list[bool]


class ChatTemplate:
    """A tokenizer with a chat template, and the tokens at which the model stops speaking."""

    def __init__(self, tokenizer: Any, stop_tokens: Iterable[int] = ()) -> None:
        """`stop_tokens`: further ones than the tokenizer's end-of-sequence token, as in generation_config.json."""
        if tokenizer.eos_token_id is None:
            raise UserMistake(
                "TokenizerUnusable",
                "the tokenizer of the base model has no end-of-sequence token, so answers would have no end:"
                " set eos_token in its tokenizer_config.json",
            )
        self._tokenizer = tokenizer
        self._stops = {int(tokenizer.eos_token_id), *stop_tokens}
        self.text: str = tokenizer.get_chat_template() if tokenizer.chat_template else DEFAULT_TEMPLATE
        self._control = _control_tokens(tokenizer)

    def render(self, messages: Sequence[Message]) -> Rendered:
        """Tokens of `messages`, up to the stop token of the last answer.

        Answers that the template shortens once a later question follows (as some do with reasoning) are not learned;
        the last one always is. Raises RowError.
        """
        self._refuse_control_tokens(messages)
        rendered = Rendered([], [])
        whole = self._text(messages, until=len(messages))
        done = ""
        for i, message in enumerate(messages):
            if message.role != "assistant":
                continue
            prompt, through = self._prompt(messages, i), self._text(messages, until=i + 1)
            is_last = i == len(messages) - 1
            if not (prompt.startswith(done) and through.startswith(prompt) and whole.startswith(through)):
                if is_last:
                    raise RowError("the chat template changes the question when the answer is added to it")
                continue
            self._append(rendered, done, prompt, through)
            done = through
        return self._ended(rendered)

    def _append(self, rendered: Rendered, done: str, prompt: str, through: str) -> None:
        """Adds what is new in `prompt` (not learned) and in `through` (the answer)."""
        question = self._tokens(prompt[len(done) :])
        both = self._tokens(through[len(done) :])
        # The question must be the tokens that a server would send, also where a merge could reach across the border.
        if both[: len(question)] != question:
            both = question + self._tokens(through[len(prompt) :])
        answer = both[len(question) :]
        ends = next((n for n, token in enumerate(answer, start=1) if token in self._stops), len(answer))
        rendered.tokens.extend(both)
        rendered.labelled.extend([False] * len(question) + [True] * ends + [False] * (len(answer) - ends))

    def _ended(self, rendered: Rendered) -> Rendered:
        """`rendered` cut after the last stop token; with a template that writes none, one is added."""
        last = len(rendered.labelled) - rendered.labelled[::-1].index(True)
        tokens, labelled = rendered.tokens[:last], rendered.labelled[:last]
        if tokens[-1] not in self._stops:
            tokens, labelled = [*tokens, int(self._tokenizer.eos_token_id)], [*labelled, True]
        return Rendered(tokens, labelled)

    def _prompt(self, messages: Sequence[Message], until: int) -> str:
        return self._apply([m.to_json() for m in messages[:until]], add_generation_prompt=True)

    def _text(self, messages: Sequence[Message], until: int) -> str:
        return self._apply([m.to_json() for m in messages[:until]], add_generation_prompt=False)

    def _apply(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        try:
            text = self._tokenizer.apply_chat_template(
                messages, chat_template=self.text, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except TemplateError as error:
            raise RowError(f"the chat template refuses it: {error.message or type(error).__name__}") from error
        return str(text)

    def _tokens(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _refuse_control_tokens(self, messages: Sequence[Message]) -> None:
        """Text that spells a control token would end a turn or begin one: data would speak as the template does."""
        for number, message in enumerate(messages, start=1):
            if self._control is not None and (found := self._control.search(message.content)):
                raise RowError(f"message {number} contains the control token '{found[0]}' of the model")


def _control_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    special.update(tokenizer.all_special_tokens)
    return re.compile("|".join(re.escape(t) for t in sorted(special, key=len, reverse=True))) if special else None


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer in a model's directory, from its files alone. Raises UserMistake."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserMistake(
            "TokenizerUnusable", f"the tokenizer of the base model cannot be loaded: {first_line}"
        ) from error
