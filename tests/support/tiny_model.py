"""A real causal language model, tokenizer and LoRA artifact of a few hundred kilobytes, made in a second.

Random weights answer nonsense, but they load, merge, batch and decode through the same code as any other model. The
chat template holds a letter outside ASCII on purpose: servers that read it in the C locale fail on it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from anneal.api.artifacts import MANIFEST_FILE, Manifest, base_model_digest, describe, digest_of_bytes

END = "<|end|>"
CONTEXT = 128
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
    "{{ raise_exception('the system message must come first') }}{% endif %}"
    "«{{ m.role }}» {{ m.content }}" + END + "{% endfor %}{% if add_generation_prompt %}«assistant» {% endif %}"
)
#: The same for a model that knows tools.
TOOLS_TEMPLATE = (
    "{% if tools %}«tools» {{ tools | tojson }}" + END + "{% endif %}"
    "{% for m in messages %}«{{ m.role }}» {{ m.content or '' }}"
    "{% for call in m.tool_calls or [] %}{{ call.function | tojson }}{% endfor %}" + END + "{% endfor %}"
    "{% if add_generation_prompt %}«assistant» {% endif %}"
)


def write_tokenizer(directory: Path, template: str = TEMPLATE) -> None:
    """A byte-level tokenizer: 256 bytes and the end of turn."""
    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)
    fast.chat_template = template
    fast.save_pretrained(directory)


def write_base(directory: Path, seed: int = 0, **changes: object) -> str:
    """A Llama of two layers with random weights, with these changes to its shape; returns its digest."""
    torch.manual_seed(seed)
    shape = {
        "vocab_size": 257,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "eos_token_id": 256,
        "bos_token_id": None,
        "pad_token_id": 256,
        "initializer_range": 0.3,
    }
    model = LlamaForCausalLM(LlamaConfig(**(shape | changes)))
    with torch.no_grad():
        model.lm_head.weight[256] *= 1.6  # so that answers end after a few tokens, at a length of their own
    model.save_pretrained(directory)
    write_tokenizer(directory)
    return base_model_digest(directory)


def write_artifact(directory: Path, base: Path, seed: int = 1, template: str = TEMPLATE) -> str:
    """A LoRA artifact on `base` with its manifest; returns its digest. Its answers differ from the base's."""
    torch.manual_seed(seed)
    model = get_peft_model(
        LlamaForCausalLM.from_pretrained(base),
        LoraConfig(r=4, lora_alpha=32, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"),
    )
    model.save_pretrained(directory)
    write_tokenizer(directory, template)
    manifest = Manifest(
        files=describe(directory, [p for p in directory.rglob("*") if p.is_file()]),
        base_digest=base_model_digest(base),
        chat_template_hash=digest_of_bytes(template.encode()),
    )
    (directory / MANIFEST_FILE).write_text(json.dumps(manifest.to_json()), encoding="utf-8")
    return manifest.digest
