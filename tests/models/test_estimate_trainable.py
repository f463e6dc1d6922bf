"""Trained parameters are counted as they are made, in every family that can be trained."""

from __future__ import annotations

import pytest
import torch
from tests.support.families import FAMILIES

from anneal.api.methods import Lora
from anneal.estimate.memory import Adapter, trainable_parameters
from anneal.estimate.shape import shape_of
from anneal_trainer.fit.methods.lora import adapt


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("targets", [[], ["q_proj", "kv_b_proj", "o_proj"]], ids=["by default", "attention"])
def test_trained_parameters_are_those_of_the_adapter(family: str, targets: list[str]) -> None:
    with torch.device("meta"):
        model = FAMILIES[family]()
    text = model.language_model if family == "llama4" else model
    names = [n for n in targets if any(name.endswith(n) for name, _ in text.named_modules())]
    adapted = adapt(text.requires_grad_(False), Lora(rank=4, target_modules=names), 0)
    expected = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    shape = shape_of(model.config.to_dict())
    assert trainable_parameters(shape, Adapter(4, tuple(names))) == expected
