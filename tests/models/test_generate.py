"""Greedy decoding on a real model: the answers of transformers itself, whatever is in the batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.tiny_model import CONTEXT, TEMPLATE, write_artifact, write_base, write_tokenizer
from transformers import AutoTokenizer

from anneal_serving.generate import Completion, complete
from anneal_serving.loading import ChatModel, UnusableModelError, load
from anneal_serving.questions import BadRequestError, Question

LIMIT = 24


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small spend their time in waking threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_base(root / "base")
    write_artifact(root / "artifact", root / "base")
    return root


@pytest.fixture(scope="module")
def tuned(directory: Path) -> ChatModel:
    return load(directory / "base", directory / "artifact", directory / "artifact", "cpu")


@pytest.fixture(scope="module")
def prompts(tuned: ChatModel) -> list[list[int]]:
    """Of different lengths, so that a batch of them is padded; some answers end early, some are cut off."""
    return [tuned.render(ask(f"{'why ' * (i % 4)}{i}?")) for i in range(12)]


def ask(text: str, max_tokens: int = LIMIT) -> Question:
    return Question([{"role": "user", "content": text}], max_tokens)


def test_each_row_is_answered_as_transformers_does(tuned: ChatModel, prompts: list[list[int]]) -> None:
    completions = complete(tuned.model, prompts, [LIMIT] * len(prompts), tuned.stops)
    for prompt, completion in zip(prompts, completions, strict=True):
        expected = tuned.model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=LIMIT, do_sample=False
        )[0, len(prompt) :].tolist()
        assert completion.tokens == [token for token in expected if token not in tuned.stops]
        assert completion.finish_reason == ("stop" if expected[-1] in tuned.stops else "length")
        assert completion.generated == len(expected)
    assert {c.finish_reason for c in completions} == {"stop", "length"}, "the case must hold both ends"


def test_a_row_does_not_depend_on_its_batch(tuned: ChatModel, prompts: list[list[int]]) -> None:
    limits = [1 + (7 * i) % LIMIT for i in range(len(prompts))]
    together = complete(tuned.model, prompts, limits, tuned.stops)
    alone = [complete(tuned.model, [p], [n], tuned.stops)[0] for p, n in zip(prompts, limits, strict=True)]
    assert together == alone


def test_finished_rows_leave_the_batch_and_only_last_logits_are_computed(
    tuned: ChatModel, prompts: list[list[int]]
) -> None:
    rows, logits, steps = [], [], []

    def before(_: object, __: object, kwargs: dict[str, Any]) -> None:
        rows.append(kwargs["input_ids"].shape[0])

    def after(_: object, __: object, output: Any) -> None:
        logits.append(output.logits.shape[1])

    hooks = [
        tuned.model.register_forward_pre_hook(before, with_kwargs=True),
        tuned.model.register_forward_hook(after),
    ]
    complete(tuned.model, prompts[:3], [2, 4, 4], frozenset(), lambda: steps.append(1))
    for hook in hooks:
        hook.remove()
    assert rows == [3, 3, 2, 2]
    assert logits == [1] * 4
    assert len(steps) == 4


def test_a_model_that_ends_at_once_said_nothing(tuned: ChatModel, prompts: list[list[int]]) -> None:
    everything = range(257)
    assert complete(tuned.model, prompts[:1], [5], everything) == [Completion([], "stop")]


def test_an_empty_prompt_is_no_prompt(tuned: ChatModel) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        complete(tuned.model, [[]], [1], tuned.stops)


def test_the_adapter_is_merged_and_changes_the_answers(directory: Path, tuned: ChatModel) -> None:
    base = load(directory / "base", None, directory / "artifact", "cpu")
    prompt = tuned.render(ask("which?"))
    assert base.render(ask("which?")) == prompt
    assert not any("lora" in name for name, _ in tuned.model.named_parameters())
    assert tuned.model.dtype == torch.float32
    assert base.answer([prompt], [8], lambda: None) != tuned.answer([prompt], [8], lambda: None)


def test_what_the_template_refuses_is_a_bad_request(tuned: ChatModel) -> None:
    late = Question([{"role": "user", "content": "a"}, {"role": "system", "content": "b"}], 1)
    with pytest.raises(BadRequestError, match="the system message must come first"):
        tuned.render(late)


def test_tools_are_rendered_by_the_template_or_refused(directory: Path, tuned: ChatModel, tmp_path: Path) -> None:
    offered = replace(ask("light on"), tools=({"type": "function", "function": {"name": "lamp"}},))
    with pytest.raises(BadRequestError, match="the model's chat template has no place for tools"):
        tuned.render(offered)
    write_tokenizer(tmp_path, "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}" + TEMPLATE)
    taught = replace(tuned, tokenizer=AutoTokenizer.from_pretrained(tmp_path))
    assert taught.tokenizer.decode(taught.render(offered)).startswith(
        '{"type": "function", "function": {"name": "lamp"}}'
    )
    assert taught.render(ask("light on")) == tuned.render(ask("light on"))


def test_what_does_not_fit_the_context_is_a_bad_request(tuned: ChatModel) -> None:
    with pytest.raises(BadRequestError, match=f"together more than the {CONTEXT}"):
        tuned.render(ask("a", max_tokens=CONTEXT))


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        ("pickled base", "pickled weights are never loaded"),
        ("pickled adapter", "pickled weights are never loaded"),
        ("no template", "no chat template"),
        ("other vocabulary", "do not belong together"),
    ],
)
def test_files_that_cannot_be_served_are_told_in_a_sentence(tmp_path: Path, harm: str, sentence: str) -> None:
    base, artifact = tmp_path / "base", tmp_path / "artifact"
    write_base(base)
    write_artifact(artifact, base)
    if harm == "pickled base":
        (base / "model.safetensors").rename(base / "pytorch_model.bin")
    elif harm == "pickled adapter":
        (artifact / "adapter_model.safetensors").rename(artifact / "adapter_model.bin")
    elif harm == "no template":
        (artifact / "chat_template.jinja").unlink()
    else:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(artifact)
        tokenizer.add_tokens(["one", "more"])
        tokenizer.save_pretrained(artifact)
    with pytest.raises(UnusableModelError, match=sentence):
        load(base, artifact, artifact, "cpu")
