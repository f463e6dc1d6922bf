"""Asks a model that nobody serves, to show what it answered before it was tuned."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

_MAX_NEW_TOKENS = 32


def ask(model_folder: Path, system: str, questions: list[str]) -> int:
    """Print one JSON list: the greedy answer to each question, in order. Returns the exit code."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(model_folder, local_files_only=True, dtype=torch.float32)
    answers = []
    for question in questions:
        chat = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.inference_mode():
            tokens = model.generate(**prompt, max_new_tokens=_MAX_NEW_TOKENS, do_sample=False)
        answers.append(tokenizer.decode(tokens[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    print(json.dumps(answers))
    return 0
