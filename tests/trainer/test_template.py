"""What is learned is what a server would have to hear: the answers and their stop token, by any template."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.tiny_model import END, TEMPLATE
from transformers import PreTrainedTokenizerFast

from anneal_trainer.errors import UserMistake
from anneal_trainer.prepare.chat import Message, RowError
from anneal_trainer.prepare.template import ChatTemplate, load_tokenizer
from anneal_trainer.prepare.training_templates import DEFAULT_TEMPLATE

CHAT = [
    Message("system", "Be brief."),
    Message("user", "one?"),
    Message("assistant", "1"),
    Message("user", "two?"),
    Message("assistant", "2"),
]
#: Ends turns with a newline after the stop token, as ChatML does.
WITH_NEWLINE = TEMPLATE.replace(END + "{% endfor %}", END + "\n{% endfor %}")
#: Shortens earlier answers once there is a later one, as templates of reasoning models do.
FORGETFUL = (
    "{% for m in messages %}{% if m.role == 'assistant' and not loop.last %}({{ m.content }})"
    "{% else %}«{{ m.role }}» {{ m.content }}{% endif %}" + END + "{% endfor %}"
    "{% if add_generation_prompt %}«assistant» {% endif %}"
)
#: Begins the answer with something that the prompt for it does not have.
REWRITING = (
    "{% for m in messages %}{{ loop.length }}{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role here') }}{% endif %}" + TEMPLATE


@pytest.fixture
def tokenizer(base: Path) -> PreTrainedTokenizerFast:
    return load_tokenizer(base)


def template(tokenizer: PreTrainedTokenizerFast, text: str) -> ChatTemplate:
    tokenizer.chat_template = text
    return ChatTemplate(tokenizer)


def learned(tokenizer: PreTrainedTokenizerFast, text: str, messages: list[Message]) -> list[str]:
    """The stretches of text that are labelled, in order."""
    rendered = template(tokenizer, text).render(messages)
    stretches: list[list[int]] = []
    before = False
    for token, labelled in zip(rendered.tokens, rendered.labelled, strict=True):
        if labelled and not before:
            stretches.append([])
        if labelled:
            stretches[-1].append(token)
        before = labelled
    return [tokenizer.decode(s) for s in stretches]


@pytest.mark.parametrize("text", [TEMPLATE, WITH_NEWLINE], ids=["plain", "newline after the stop"])
def test_every_answer_is_learned_with_its_stop_token_and_nothing_else(
    tokenizer: PreTrainedTokenizerFast, text: str
) -> None:
    assert learned(tokenizer, text, CHAT) == [f"1{END}", f"2{END}"]


@pytest.mark.parametrize("text", [TEMPLATE, WITH_NEWLINE, FORGETFUL], ids=["plain", "newline", "forgetful"])
def test_what_comes_before_the_last_answer_is_what_a_server_sends(
    tokenizer: PreTrainedTokenizerFast, text: str
) -> None:
    rendered = template(tokenizer, text).render(CHAT)
    sent = tokenizer.apply_chat_template(
        [m.to_json() for m in CHAT[:-1]], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    assert rendered.tokens[: len(sent)] == sent
    assert tokenizer.decode(rendered.tokens[len(sent) :]) == f"2{END}"
    assert rendered.labelled[len(sent) :] == [True, True]


def test_an_answer_that_the_template_shortens_later_is_not_learned(tokenizer: PreTrainedTokenizerFast) -> None:
    assert learned(tokenizer, FORGETFUL, CHAT) == [f"2{END}"]


def test_a_template_that_writes_no_stop_token_gets_one(tokenizer: PreTrainedTokenizerFast) -> None:
    assert learned(tokenizer, TEMPLATE.replace(END, ";"), CHAT[1:3]) == [f"1;{END}"]


def test_the_default_template_teaches_to_stop(tokenizer: PreTrainedTokenizerFast) -> None:
    assert learned(tokenizer, DEFAULT_TEMPLATE, CHAT) == [f"1{END}", f"2{END}"]


def test_a_template_that_rewrites_the_question_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(RowError, match="changes the question when the answer is added"):
        template(tokenizer, REWRITING).render(CHAT)


def test_what_the_template_refuses_is_said_in_its_words(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(RowError, match="the chat template refuses it: no system role here"):
        template(tokenizer, NO_SYSTEM).render(CHAT)


def test_a_tokenizer_without_an_end_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.eos_token = None
    with pytest.raises(UserMistake, match="answers would have no end"):
        ChatTemplate(tokenizer)
