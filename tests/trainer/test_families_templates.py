"""The chat templates of families: chosen by what the tokenizer is, and what they teach is the answer and its end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from tests.support.tiny_model import TEMPLATE
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from anneal_trainer.errors import UserMistake
from anneal_trainer.prepare.chat import Message, RowError
from anneal_trainer.prepare.template import ChatTemplate, load_tokenizer
from anneal_trainer.prepare.training_templates import DEFAULT_TEMPLATE

THOUGHT = "<think>\nTwo and two.\n</think>\n\n4"
CHAT = [
    Message("system", "Be brief."),
    Message("user", "one?"),
    Message("assistant", "\n1"),
    Message("user", "2+2?"),
    Message("assistant", THOUGHT),
]


@dataclass(frozen=True)
class Toy:
    """A family's control tokens on a tokenizer of bytes.

    Attributes:
        published: a template in the manner of the family's own: it adds a default system message with the date, or
            drops reasoning, and marks no answers.
        text: what CHAT is as text, with what is learned between « and ».
    """

    begin: str
    end: str
    control: tuple[str, ...]
    published: str
    text: str
    plain: tuple[str, ...] = ()


MISTRAL = Toy(
    begin="<s>",
    end="</s>",
    control=("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CALLS]"),
    published="{{ bos_token }}{% if messages[0].role != 'system' %}"
    "[SYSTEM_PROMPT]Today is {{ strftime_now('%Y-%m-%d') }}.[/SYSTEM_PROMPT]{% endif %}{% for m in messages %}"
    "{% if m.role == 'system' %}[SYSTEM_PROMPT]{{ m.content }}[/SYSTEM_PROMPT]"
    "{% elif m.role == 'user' %}[INST]{{ m.content }}[/INST]{% else %}{{ m.content }}{{ eos_token }}{% endif %}"
    "{% endfor %}",
    text="<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]one?[/INST]«\n1</s>»[INST]2+2?[/INST]«" + THOUGHT + "</s>»",
)
LLAMA4 = Toy(
    begin="<|begin_of_text|>",
    end="<|eot|>",
    control=("<|header_start|>", "<|header_end|>", "<|end_of_text|>", "<|python_start|>"),
    published="{{ bos_token }}{% for m in messages %}<|header_start|>{{ m.role }}<|header_end|>\n\n"
    "{{ m.content | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|header_start|>assistant<|header_end|>\n\n{% endif %}",
    text="<|begin_of_text|><|header_start|>system<|header_end|>\n\nBe brief.<|eot|><|header_start|>user<|header_end|>"
    "\n\none?<|eot|><|header_start|>assistant<|header_end|>\n\n«\n1<|eot|>»<|header_start|>user<|header_end|>"
    "\n\n2+2?<|eot|><|header_start|>assistant<|header_end|>\n\n«" + THOUGHT + "<|eot|>»",
)
_R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}"
    "{% elif m.role == 'user' %}<｜User｜>{{ m.content }}{% else %}<｜Assistant｜>"
    "{{ m.content.split('</think>')[-1] }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜>OPENS{% endif %}"
)
R1 = Toy(
    begin="<｜begin▁of▁sentence｜>",
    end="<｜end▁of▁sentence｜>",
    control=("<｜User｜>", "<｜Assistant｜>"),
    published=_R1.replace("OPENS", "<think>\n"),
    text="<｜begin▁of▁sentence｜>Be brief.<｜User｜>one?<｜Assistant｜>«\n1<｜end▁of▁sentence｜>»"
    "<｜User｜>2+2?<｜Assistant｜>«" + THOUGHT + "<｜end▁of▁sentence｜>»",
    plain=("<think>", "</think>"),
)
TOYS = {"Mistral V7-Tekken": MISTRAL, "Llama 4": LLAMA4, "R1": R1}


def tokenizer(toy: Toy, template: str | None) -> PreTrainedTokenizerFast:
    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    # Two line ends are one token, so a line end that begins an answer could become one with the heading's.
    core = Tokenizer(models.BPE(vocab=alphabet | {"ĊĊ": len(alphabet)}, merges=[("Ċ", "Ċ")]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(t, special=True) for t in toy.control])
    core.add_tokens([AddedToken(t) for t in toy.plain])
    fast = PreTrainedTokenizerFast(tokenizer_object=core, bos_token=toy.begin, eos_token=toy.end)
    fast.chat_template = template
    return fast


def shown(words: Any, tokens: list[int], labelled: list[bool]) -> str:
    """The tokens as text, with « and » around what is learned."""
    parts, before = [], False
    for token, mark in zip([*tokens, None], [*labelled, False], strict=True):
        parts.append("«" if mark and not before else "»" if before and not mark else "")
        parts.append(words.decode([token]) if token is not None else "")
        before = mark
    return "".join(parts)


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("published", [True, False], ids=["with a template of its own", "with none"])
def test_the_answer_and_its_end_are_learned_and_reasoning_stays(name: str, published: bool) -> None:
    toy = TOYS[name]
    words = tokenizer(toy, toy.published if published else None)
    rendered = ChatTemplate(words).render(CHAT)
    assert shown(words, rendered.tokens, rendered.labelled) == toy.text


@pytest.mark.parametrize("name", TOYS)
def test_what_comes_before_an_answer_is_what_a_server_sends(name: str) -> None:
    words = tokenizer(TOYS[name], TOYS[name].published)
    template = ChatTemplate(words)
    rendered = template.render(CHAT)
    asked = words.apply_chat_template(
        [m.to_json() for m in CHAT[:-1]],
        chat_template=template.text,
        add_generation_prompt=True,
        return_dict=True,
    )["input_ids"]
    assert rendered.tokens[: len(asked)] == asked
    assert all(rendered.labelled[len(asked) :])


@pytest.mark.parametrize("name", TOYS)
def test_transformers_reads_the_same_marks(name: str) -> None:
    words = tokenizer(TOYS[name], None)
    template = ChatTemplate(words)
    found = words.apply_chat_template(
        [m.to_json() for m in CHAT],
        chat_template=template.text,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    rendered = template.render(CHAT)
    assert found["input_ids"] == rendered.tokens
    assert found["assistant_masks"] == [int(mark) for mark in rendered.labelled]


@pytest.mark.parametrize("name", TOYS)
def test_the_same_day_or_another_the_rows_are_the_same(name: str) -> None:
    words = tokenizer(TOYS[name], TOYS[name].published)
    text = words.decode(ChatTemplate(words).render(CHAT[1:3]).tokens)
    assert "Today" not in text
    assert text.endswith("\n1" + TOYS[name].end)


@pytest.mark.parametrize(
    ("toy", "own"),
    [
        (R1, _R1.replace("OPENS", "</think>")),
        (MISTRAL, MISTRAL.published.replace("[/INST]", " [/INST]")),
        (LLAMA4, "{{ raise_exception('no system role') }}"),
        (R1, "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"),
    ],
    ids=["another opening", "spaces", "refuses a system message", "marks answers itself"],
)
def test_a_template_that_asks_otherwise_or_marks_answers_stays(toy: Toy, own: str) -> None:
    assert ChatTemplate(tokenizer(toy, own)).text == own


def test_other_tokenizers_keep_their_template_or_get_the_default_one() -> None:
    toy = Toy(begin="<s>", end="</s>", control=("[INST]", "[/INST]"), published="", text="")
    assert ChatTemplate(tokenizer(toy, TEMPLATE)).text == TEMPLATE
    assert ChatTemplate(tokenizer(toy, None)).text == DEFAULT_TEMPLATE


def test_marks_around_the_heading_do_not_teach_to_write_it() -> None:
    own = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}[A]{{ m.content }}{{ eos_token }}"
        "{% endgeneration %}{% else %}[Q]{{ m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}[A]{% endif %}"
    )
    words = tokenizer(MISTRAL, own)
    rendered = ChatTemplate(words).render(CHAT[1:])
    assert shown(words, rendered.tokens, rendered.labelled) == f"[Q]one?[A]«\n1</s>»[Q]2+2?[A]«{THOUGHT}</s>»"


@pytest.mark.parametrize("name", TOYS)
def test_what_a_template_of_ours_cannot_say_is_refused(name: str) -> None:
    words = tokenizer(TOYS[name], None)
    template = ChatTemplate(words)
    with pytest.raises(RowError, match="the role 'tool' is none of system, user and assistant"):
        template.render([Message("user", "?"), Message("tool", "x"), Message("assistant", "y")])
    tools = [{"type": "function", "function": {"name": "f"}}]
    with pytest.raises(TemplateError, match="tuned without tools"):
        words.apply_chat_template([CHAT[1].to_json()], chat_template=template.text, tools=tools, tokenize=False)
    with pytest.raises(RowError, match="contains the control token"):
        template.render([Message("user", TOYS[name].end), CHAT[2]])


def test_a_tokenizer_in_the_format_of_mistral_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tekken.json").write_text("{}")
    with pytest.raises(UserMistake, match="in Mistral's own format alone"):
        load_tokenizer(tmp_path)
    tokenizer(MISTRAL, None).save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).eos_token == "</s>"
