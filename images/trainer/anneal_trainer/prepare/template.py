"""From a conversation to tokens, with the loss on the answers only, by the model's own chat template.

What the template writes up to the point where the assistant begins to speak is exactly what a server sends to the
model, and what follows is exactly what the model has to say. Where the answer ends, a template that marks it
({% generation %}) says itself; with others, which are most, it is what the conversation up to the answer adds. Both
work for templates that only ever append.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from anneal_trainer.errors import UserMistake
from anneal_trainer.prepare.chat import Call, Message, RowError
from anneal_trainer.prepare.training_templates import marks_answers, training_template

#: A use of tools in words that occur in no template; Mistral's demand ids of nine letters.
_PROBED = {"tools": "weigh_luggage", "tool calls": "suitcase", "what tools answer": "19kilograms"}
_TOOLS = json.dumps(
    [
        {
            "type": "function",
            "function": {
                "name": "weigh_luggage",
                "description": "Weighs.",
                "parameters": {"type": "object", "properties": {"piece": {"type": "string"}}, "required": ["piece"]},
            },
        }
    ]
)
_TOOL_USE = (
    Message("user", "How heavy is it?"),
    Message("assistant", "", (Call("weigh_luggage", '{"piece":"suitcase"}', "abcdefghi"),)),
    Message("tool", "19kilograms", call_id="abcdefghi", name="weigh_luggage"),
    Message("assistant", "Heavy."),
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
        self.text = training_template(tokenizer)
        self._marked = marks_answers(self.text)
        self._stop_texts = tokenizer.convert_ids_to_tokens(sorted(self._stops))
        self._control = _control_tokens(tokenizer)
        self._core = getattr(tokenizer, "backend_tokenizer", None)
        if self._core is not None:
            self._core.no_truncation()
            self._core.no_padding()

    def render(self, messages: Sequence[Message], tools: str = "") -> Rendered:
        """Tokens of `messages`, to which `tools` (the JSON of a list) are offered, up to the stop token of the last
        answer.

        Answers that the template shortens once a later question follows (as some do with reasoning) are not learned;
        the last one always is. Raises RowError.
        """
        self._refuse_control_tokens(messages, tools)
        if tools and self._refusal_of_tools is not None:
            raise RowError(self._refusal_of_tools)
        rendered = Rendered([], [])
        done = ""
        for prompt, through in self._answers(messages, tools):
            self._append(rendered, done, prompt, through)
            done = through
        return self._ended(rendered)

    def _answers(self, messages: Sequence[Message], tools: str) -> Iterator[tuple[str, str]]:
        """(the text before it, the text up to its end) of each answer, every one a beginning of the next."""
        whole, spans = self._whole(messages, tools)
        places = [i for i, message in enumerate(messages) if message.role == "assistant"]
        done = ""
        for number, place in enumerate(places):
            prompt = self._text(messages[:place], tools, add_generation_prompt=True)
            if len(spans) == len(places):
                begins, ends = spans[number]
                # A mark that begins before what a server sends has ended would teach the model to ask.
                prompt, through = max(prompt, whole[:begins], key=len), whole[:ends]
            else:
                through = whole if place == len(messages) - 1 else self._text(messages[: place + 1], tools)
            if messages[place].calls and not whole.startswith(through):
                through = self._as_it_stays(messages, tools, place, whole)
            if prompt.startswith(done) and through.startswith(prompt) and whole.startswith(through):
                yield prompt, through
                done = through
            elif place == places[-1]:
                raise RowError("the chat template changes the question when the answer is added to it")
            elif messages[place].calls:
                raise RowError(f"the chat template changes the tool call in message {place + 1} once there is more")

    def _as_it_stays(self, messages: Sequence[Message], tools: str, place: int, whole: str) -> str:
        """`whole` up to the stop token of the call at `place`; empty where it has none, or lost what was said with it.

        Some templates say of the last turn alone that nothing was thought. What follows in another wording tells where
        the message after the call begins.
        """
        following = messages[place + 1]
        other = replace(following, content="b" if following.content.startswith("a") else "a")
        changed = self._text([*messages[: place + 1], other, *messages[place + 2 :]], tools)
        through = "".join(
            ours for ours, _ in takewhile(lambda two: two[0] == two[1], zip(whole, changed, strict=False))
        )
        start = whole.rfind(messages[place].calls[-1].name, 0, len(through))
        ends = [at + len(stop) for stop in self._stop_texts if (at := through.find(stop, start)) >= 0]
        return through[: min(ends)] if ends and messages[place].content.strip() in through else ""

    def _append(self, rendered: Rendered, done: str, prompt: str, through: str) -> None:
        """Adds what is new in `prompt` (not learned) and in `through` (the answer)."""
        question, both = self._tokens(prompt[len(done) :], through[len(done) :])
        # The question must be the tokens that a server would send, also where a merge could reach across the border.
        if both[: len(question)] != question:
            both = question + self._tokens(through[len(prompt) :])[0]
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

    def _whole(self, messages: Sequence[Message], tools: str) -> tuple[str, list[tuple[int, int]]]:
        """The conversation as text, and where in it the template marks answers, if it does."""
        if not self._marked:
            return self._text(messages, tools), []
        texts, spans = self._apply(messages, tools, return_assistant_tokens_mask=True)
        return texts[0], spans[0]

    def _text(self, messages: Sequence[Message], tools: str, **options: bool) -> str:
        return str(self._apply(messages, tools, **options)[0][0])

    @cached_property
    def _refusal_of_tools(self) -> str | None:
        """What to say of rows with tools where the template would leave any part of their use out."""
        try:
            text = self._text(_TOOL_USE, _TOOLS)
        except RowError as error:
            return f"it offers tools; {error}"
        missing = [what for what, word in _PROBED.items() if word not in text]
        if not missing:
            return None
        return f"it offers tools; the chat template of the model has no place for {', '.join(missing)}"

    def _apply(self, messages: Sequence[Message], tools: str, **options: bool) -> Any:
        """([text], [spans of answers]) by transformers, with nothing but the special tokens to fill in."""
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            return render_jinja_template(
                [[m.to_json() for m in messages]],
                tools=json.loads(tools) if tools else None,
                chat_template=self.text,
                **options,
                **self._tokenizer.special_tokens_map,
            )
        except TemplateError as error:
            raise RowError(f"the chat template refuses it: {error.message or type(error).__name__}") from error
        except (TypeError, ValueError, KeyError) as error:
            raise RowError(f"the chat template cannot write it: {str(error)[:80]}") from error

    def _tokens(self, *texts: str) -> list[list[int]]:
        """The tokens of each text. Where the tokenizer has a core in Rust it is asked itself: twice as fast."""
        if self._core is None:
            return list(self._tokenizer(list(texts), add_special_tokens=False)["input_ids"])
        return [encoded.ids for encoded in self._core.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _refuse_control_tokens(self, messages: Sequence[Message], tools: str) -> None:
        """Text that spells a control token would end a turn or begin one: data would speak as the template does."""
        if self._control is None:
            return
        for number, message in enumerate(messages, start=1):
            if found := self._control.search(message.said):
                raise RowError(f"message {number} contains the control token '{found[0]}' of the model")
        if found := self._control.search(tools):
            raise RowError(f"\"tools\" contains the control token '{found[0]}' of the model")


def _control_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    special.update(tokenizer.all_special_tokens)
    return re.compile("|".join(re.escape(t) for t in sorted(special, key=len, reverse=True))) if special else None


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer in a model's directory, from its files alone. Raises UserMistake."""
    from transformers import AutoTokenizer

    if (directory / "tekken.json").exists() and not (directory / "tokenizer.json").exists():
        raise UserMistake(
            "TokenizerUnusable",
            "the base model has its tokenizer in Mistral's own format alone (tekken.json): put the tokenizer.json and"
            " tokenizer_config.json of a release that has them, with the same vocabulary, beside it",
        )
    try:
        return AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserMistake(
            "TokenizerUnusable", f"the tokenizer of the base model cannot be loaded: {first_line}"
        ) from error
