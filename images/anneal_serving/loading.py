"""A chat model from local files alone: safetensors, no code from the model's folder, no network.

The adapter is merged into the base in memory, so a tuned model decodes as fast as a bare one. fp32 on CPU, where it
is both exact and hardly slower; bf16 on a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

from anneal_serving.generate import FinishReason, complete
from anneal_serving.questions import BadRequestError, Question

ADAPTER_WEIGHTS = "adapter_model.safetensors"
#: Families that see and speak, which transformers does not load as language models alone.
SEEING = ("mistral3",)


class UnusableModelError(ValueError):
    """The files verify but cannot be served; the message says why."""


@dataclass(frozen=True)
class Answer:
    """One row's answer."""

    text: str
    finish_reason: FinishReason
    input_tokens: int
    """Tokens of the rendered prompt."""
    output_tokens: int
    """Tokens decoded, with the one that ended the answer."""


@dataclass(frozen=True)
class ChatModel:
    """A model with the tokenizer and template that it is asked by."""

    model: Any
    tokenizer: Any
    stops: frozenset[int]
    """Tokens that end an answer."""
    context: int | None
    """Most tokens of prompt and answer together, where the model has a limit."""

    def render(self, question: Question) -> list[int]:
        """Token ids of the prompt. Raises BadRequestError when the template refuses it or it does not fit."""
        prompt = self._prompt(question, question.tools)
        if question.tools and prompt == self._prompt(question, ()):
            raise BadRequestError("the model's chat template has no place for tools")
        if not prompt:
            raise BadRequestError("the model's chat template renders these messages to nothing")
        if self.context is not None and len(prompt) + question.max_tokens > self.context:
            raise BadRequestError(
                f"the prompt has {len(prompt)} tokens and max_tokens is {question.max_tokens}: together more than"
                f" the {self.context} that this model can read"
            )
        return prompt

    def _prompt(self, question: Question, tools: Sequence[dict[str, Any]]) -> list[int]:
        try:
            prompt: list[int] = self.tokenizer.apply_chat_template(
                question.messages,
                tools=list(tools) or None,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
            )
        except TemplateError as error:
            raise BadRequestError(f"the model's chat template refuses these messages: {error}") from error
        return prompt

    def answer(self, prompts: Sequence[list[int]], limits: Sequence[int], on_step: Callable[[], None]) -> list[Answer]:
        """Answers to rendered prompts, decoded as one batch."""
        completions = complete(self.model, prompts, limits, self.stops, on_step)
        return [
            Answer(
                text=self.tokenizer.decode(completion.tokens, skip_special_tokens=True),
                finish_reason=completion.finish_reason,
                input_tokens=len(prompt),
                output_tokens=completion.generated,
            )
            for prompt, completion in zip(prompts, completions, strict=True)
        ]


def load(base: Path, adapter: Path | None, tokenizer: Path, device: str) -> ChatModel:
    """The model of `base` with `adapter` merged in, asked by the tokenizer in `tokenizer`.

    Raises UnusableModelError, or what transformers and peft raise, when the files cannot be used.
    """
    if not any(base.glob("*.safetensors")):
        raise UnusableModelError(f"{base.name} has no *.safetensors weights; pickled weights are never loaded")
    if adapter is not None and not (adapter / ADAPTER_WEIGHTS).is_file():
        raise UnusableModelError(f"{adapter.name} has no {ADAPTER_WEIGHTS}; pickled weights are never loaded")
    words = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True, trust_remote_code=False)
    if not words.chat_template:
        raise UnusableModelError("the tokenizer has no chat template, so chats cannot be rendered")
    model = _loader(base).from_pretrained(
        base,
        dtype=torch.float32 if device == "cpu" else torch.bfloat16,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    if adapter is not None:
        from peft import PeftModel  # here, since bases are served without

        model = PeftModel.from_pretrained(model, adapter, is_trainable=False).merge_and_unload()
    model = model.to(device).eval()
    rows = model.get_input_embeddings().weight.shape[0]
    if len(words) > rows:
        raise UnusableModelError(
            f"the tokenizer has {len(words)} tokens, the model only {rows}: they do not belong together"
        )
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return ChatModel(model, words, _stops(model, words), context)


def _loader(base: Path) -> Any:
    kind = json.loads((base / "config.json").read_bytes()).get("model_type")
    return AutoModelForImageTextToText if kind in SEEING else AutoModelForCausalLM


def _stops(model: Any, tokenizer: Any) -> frozenset[int]:
    """What the model and the tokenizer call the end; generation_config may list several."""
    declared = model.generation_config.eos_token_id
    of_model = declared if isinstance(declared, list) else [declared]
    return frozenset(token for token in (*of_model, tokenizer.eos_token_id) if token is not None)
