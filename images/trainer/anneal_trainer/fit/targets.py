"""Where adapters may land: the linear layers of the language tower, each under a name that peft leaves alone.

Names of layers are suffixes, and suffixes repeat: the vision tower of Mistral Small has a `q_proj` as its language
tower has. For families whose experts were separate layers in transformers 4, peft takes `gate_proj` for the experts'
stack, also where shared and dense layers bear that name: asked for the ordinary layers, it would adapt hundreds of
experts instead. Such names are no targets; experts are adapted by the names of their stacks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from anneal_trainer.errors import UserMistake

_LINEAR = ("Linear", "Conv1D", "Linear4bit")


def linear_layers(model: Any) -> list[str]:
    """Full names of the layers that can be adapted; the head is among them where it is part of the language tower."""
    tower = language_tower(model)
    names = [
        name
        for name, module in model.named_modules()
        if type(module).__name__ in _LINEAR and name.startswith(f"{tower}." if tower else "")
    ]
    redirected = _redirected(model, {_suffix(name) for name in names})
    return [name for name in names if _suffix(name) not in redirected]


def refuse_redirected(model: Any, wanted: Iterable[str]) -> None:
    """Raises UserMistake for a name that peft would take for another layer than the one that it names."""
    names = {_suffix(name): name for name in wanted}
    present = {_suffix(name) for name, _ in model.named_modules()}
    for suffix in sorted(_redirected(model, present) & set(names)):
        raise UserMistake(
            "NoSuchModules",
            f"lora.targetModules names '{names[suffix]}', which in a {model.config.model_type} stands for all experts"
            " of a layer and for no layer by itself: leave it out, or name the experts in lora.targetParameters",
        )


def outside(model: Any) -> str | None:
    """An expression that matches the names of all modules outside the language tower, or None if there are none."""
    tower = language_tower(model)
    return rf"(?!{re.escape(tower)}\.).*" if tower else None


def language_tower(model: Any) -> str:
    """The name of the module below which all language layers are; empty for a model that has no other."""
    if model.config.get_text_config() is model.config:
        return ""
    tower = model.get_decoder()
    return str(next(name for name, module in model.named_modules() if module is tower))


def _redirected(model: Any, suffixes: set[str]) -> set[str]:
    """Those of the names that peft takes for stacked experts of this model."""
    from peft import LoraConfig
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    config = LoraConfig(target_modules=sorted(suffixes))
    convert_peft_config_for_transformers(config, model, conversions=None)
    return suffixes - set(config.target_modules)


def _suffix(name: str) -> str:
    return name.rpartition(".")[2]
