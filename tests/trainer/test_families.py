"""Every model family that is said to be supported, from its folder to an artifact that others load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tests.support.families import CONTEXT, FAMILIES, write_family
from tests.trainer.job import FAST, Job
from tests.trainer.test_passes import CPU, adapted, plain, quick, rows_with
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from anneal.api.methods import Lora, Method
from anneal.api.runs import MountedPath
from anneal_serving.loading import load as load_served
from anneal_trainer import model
from anneal_trainer.errors import UserMistake
from anneal_trainer.fit import tensors
from anneal_trainer.fit.checkpoint import complete
from anneal_trainer.fit.methods import Learner
from anneal_trainer.fit.methods.lora import adapt
from anneal_trainer.fit.optimizer import optimizer
from anneal_trainer.fit.passes import quickest

ATTENTION = ["self_attn.k_proj", "self_attn.o_proj", "self_attn.q_proj", "self_attn.v_proj"]
DENSE = [*ATTENTION, "mlp.down_proj", "mlp.gate_proj", "mlp.up_proj"]
LATENT = [f"self_attn.{n}" for n in ("kv_a_proj_with_mqa", "o_proj", "q_a_proj", "q_b_proj")]
SHARED = [f"feed_forward.shared_expert.{n}" for n in ("down_proj", "gate_proj", "up_proj")]
#: Per family: where its layers are, and what of the first and of the second layer is adapted.
LANDS = {
    "mistral3": ("model.language_model.layers", DENSE, DENSE),
    "llama4": (
        "model.layers",
        [*ATTENTION, *(f"feed_forward.{n}" for n in ("down_proj", "gate_proj", "up_proj"))],
        [*ATTENTION, *SHARED],
    ),
    "deepseek_v3": ("model.layers", LATENT, LATENT),
    "llama": ("model.layers", DENSE, DENSE),
    "qwen2": ("model.layers", DENSE, DENSE),
    "qwen3": ("model.layers", DENSE, DENSE),
    "mistral": ("model.layers", DENSE, DENSE),
}
#: The stacks of experts of families that have them, as targetParameters names them.
EXPERTS = {
    "llama4": ["feed_forward.experts.down_proj", "feed_forward.experts.gate_up_proj"],
    "deepseek_v3": ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"],
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of all families. Not to be changed."""
    root = tmp_path_factory.mktemp("hub")
    for family in FAMILIES:
        write_family(root / family, family)
    return root


def loaded(folder: Path) -> Any:
    return model.load(MountedPath(uri=f"pvc://hub/{folder.name}", path=str(folder)), torch.float32, CPU)


def stock(folder: Path) -> Any:
    """The model as somebody else loads it."""
    auto = AutoModelForImageTextToText if folder.name == "mistral3" else AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_land_in_the_language_layers_and_nowhere_else(family: str, hub: Path) -> None:
    tuned = adapt(loaded(hub / family), Lora(rank=4), 1)
    root, first, second = LANDS[family]
    expected = {f"base_model.model.{root}.{n}.{name}" for n, names in enumerate((first, second)) for name in names}
    learning = {name for name, parameter in tuned.named_parameters() if parameter.requires_grad}
    assert learning == {f"{name}.lora_{side}.default.weight" for name in expected for side in "AB"}


def test_what_vllm_does_not_apply_is_adapted_where_it_is_named(hub: Path) -> None:
    tuned = adapt(loaded(hub / "deepseek_v3"), Lora(rank=4, target_modules=["kv_b_proj"]), 1)
    learning = {name for name, parameter in tuned.named_parameters() if parameter.requires_grad}
    layers = [f"base_model.model.model.layers.{n}.self_attn.kv_b_proj" for n in range(2)]
    assert learning == {f"{layer}.lora_{side}.default.weight" for layer in layers for side in "AB"}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_is_what_transformers_computes_row_by_row(family: str, hub: Path) -> None:
    tuned = adapted(loaded(hub / family))
    rows = rows_with(12)
    expected_loss, expected = plain(tuned, rows)
    passes = quickest(tuned, rows, CPU, 60, torch.float32)
    assert (passes.way, passes.notes) == ("Shared", ())
    loss, found = quick(tuned, passes)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("family", "stacks"), [*((f, []) for f in FAMILIES), *EXPERTS.items()])
def test_training_learns_and_its_artifact_is_for_everybody(
    family: str, stacks: list[str], hub: Path, tmp_path: Path
) -> None:
    method = Method(lora=Lora(rank=4, alpha=8, target_parameters=stacks))
    job = Job(hub / family, tmp_path, training=FAST.model_copy(update={"max_steps": 8}), method=method)
    result = job.published()
    assert result.publish is not None, result.message
    folder = job.output / result.publish.uri.rpartition("/")[2]
    names = load_file(folder / "adapter_model.safetensors")
    assert any("experts" in n and "shared" not in n for n in names) == bool(stacks)
    losses = [told["loss"] for told in json.loads((folder / "report.json").read_text())["history"]]
    assert losses[-1] < losses[0], losses

    tokens = torch.randint(0, 256, (2, 40), generator=torch.Generator().manual_seed(0))
    others = PeftModel.from_pretrained(stock(hub / family), folder).eval()
    ours = adapt(loaded(hub / family), method.adapter, 2).eval()
    (checkpoint,) = [c for c in complete(job.workspace / "checkpoints") if c.manifest.step == 8]
    learner = Learner(ours)
    tensors.restore(checkpoint, learner, optimizer(learner, "AdamW", 0.0))
    served = load_served(hub / family, folder, folder, "cpu")
    with torch.no_grad():
        logits = others(input_ids=tokens).logits
        assert not torch.allclose(logits, stock(hub / family)(input_ids=tokens).logits, atol=1e-3)
        torch.testing.assert_close(ours(input_ids=tokens).logits, logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(served.model(input_ids=tokens).logits, logits, rtol=1e-4, atol=1e-4)
    assert served.context == model.longest_context(hub / family) == CONTEXT


@pytest.mark.parametrize("family", FAMILIES)
def test_served_answers_do_not_depend_on_the_batch(family: str, hub: Path) -> None:
    served = load_served(hub / family, None, hub / family, "cpu")
    prompts = [np.random.default_rng(n).integers(0, 256, n).tolist() for n in (3, 17, 40)]
    together = served.answer(prompts, [12] * 3, lambda: None)
    assert together == [served.answer([p], [12], lambda: None)[0] for p in prompts]


def test_the_vision_tower_is_loaded_and_stays_as_it_is(hub: Path) -> None:
    tuned = adapted(loaded(hub / "mistral3"))
    plain(tuned, rows_with(0))
    weights = load_file(hub / "mistral3" / "model.safetensors")
    seeing = {name: tensor for name, tensor in weights.items() if name.startswith("vision_tower")}
    assert seeing
    for name, tensor in seeing.items():
        parameter = tuned.get_parameter(f"base_model.model.model.{name}")
        assert torch.equal(parameter, tensor)
        assert parameter.grad is None


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("mistral3", "linear_1"),
        ("mistral3", "model.vision_tower.transformer.layers.0.attention.q_proj"),
        ("llama4", "router"),
        ("deepseek_v3", "gate_proj"),
        ("deepseek_v3", "shared_experts.up_proj"),
    ],
)
def test_what_cannot_be_adapted_is_refused(family: str, name: str, hub: Path) -> None:
    with pytest.raises(UserMistake, match=rf"names '{name}', (but no linear layer of|which in a deepseek_v3 stands)"):
        adapt(loaded(hub / family), Lora(rank=4, target_modules=[name]), 1)
