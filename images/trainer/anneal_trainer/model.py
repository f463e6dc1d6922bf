"""The base model: is it one that can be loaded without running anybody's code, and then: load it.

A model is data from somebody. Pickled weights and a model's own Python files run code when they are loaded, so neither
is ever touched; safetensors and the architectures of transformers are enough for all common models.
"""

from __future__ import annotations

import json
import logging
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from anneal.api.artifacts import base_model_digest
from anneal.api.estimate import ModelShape
from anneal.api.references import HubModel, parse
from anneal.api.runs import MountedPath
from anneal.estimate.families import is_known
from anneal.estimate.shape import shape_of
from anneal_trainer.errors import UserMistake

if TYPE_CHECKING:
    import torch

#: Families that see and speak, of which only the language tower is trained, and that transformers does not load as
#: language models alone (it does so with Llama 4).
_SEEING = ("mistral3",)
_LOG = logging.getLogger(__name__)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def check(model: MountedPath) -> str:
    """The digest of the base model in a directory that has all that is needed. Raises UserMistake, in a sentence."""
    directory = Path(model.path)
    if not directory.is_dir():
        what = "a file, not a folder" if directory.exists() else "not there"
        raise UserMistake(
            "ModelNotFound",
            f"the base model {model.uri} is {what}: name the folder with config.json and *.safetensors in the claim",
        )
    config = _read_json(directory / "config.json", model.uri)
    _check_weights(directory, model.uri)
    _check_architecture(config, model.uri)
    _check_code_elsewhere(directory, model.uri)
    try:
        return base_model_digest(directory)
    except ValueError as error:
        raise UserMistake("ModelUnusable", f"the base model {model.uri} cannot be used: {error}") from error


def _read_json(path: Path, uri: str) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UserMistake(
            "ModelUnusable", f"the base model {uri} has no {path.name}: it is not a Hugging Face model folder"
        ) from error
    except ValueError as error:
        raise UserMistake("ModelUnusable", f"{path.name} of the base model {uri} is broken JSON: {error}") from error
    if not isinstance(document, dict):
        raise UserMistake("ModelUnusable", f"{path.name} of the base model {uri} is not a JSON object")
    return document


def _check_weights(directory: Path, uri: str) -> None:
    weights = {p.name for p in directory.glob("*.safetensors")}
    if not weights:
        pickles = sorted(p.name for pattern in _PICKLES for p in directory.glob(pattern))
        if pickles:
            raise UserMistake(
                "PickledWeights",
                f"the base model {uri} has pickled weights only ({pickles[0]}), which can run code when loaded:"
                " convert it to safetensors (load it with transformers where you trust it, then save_pretrained)",
            )
        raise UserMistake("ModelUnusable", f"the base model {uri} has no weights (*.safetensors)")
    for name in sorted(weights):
        _check_header(directory / name, uri)
    index = directory / "model.safetensors.index.json"
    if index.exists():
        named = set(_read_json(index, uri).get("weight_map", {}).values())
        if missing := sorted(named - weights):
            raise UserMistake(
                "ModelUnusable",
                f"the base model {uri} is not complete: {len(missing)} of its {len(named)} weight files are missing,"
                f" first {missing[0]}",
            )


def _check_header(path: Path, uri: str) -> None:
    """The header of a weight file, against the file's size: whatever is called safetensors and is not, ends here."""
    try:
        with safe_open(path, "np"):
            pass
    except SafetensorError as error:
        raise UserMistake(
            "ModelUnusable", f"{path.name} of the base model {uri} is not a whole safetensors file: {error}"
        ) from error


def _check_architecture(config: dict[str, Any], uri: str) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = config.get("model_type")
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or kind in _SEEING:
        if config.get("quantization_config"):
            raise UserMistake(
                "ModelUnusable", f"the base model {uri} is quantised: start from its full-precision weights"
            )
        return
    if config.get("auto_map"):
        raise UserMistake(
            "RemoteCode",
            f"the base model {uri} needs Python code of its own (auto_map in config.json), which is never run: use a"
            " model whose architecture transformers has",
        )
    raise UserMistake(
        "ModelUnusable",
        f"the base model {uri} is of type '{kind}', which is no causal language model that transformers"
        f" {version('transformers')} has",
    )


def shape(directory: Path) -> ModelShape | None:
    """What the model in a directory is made of, by its configuration or its weights; None when neither tells."""
    try:
        config = _read_json(directory / "config.json", directory.name)
        return shape_of(config) if is_known(config) else shape_of(config, _stored(directory))
    except (ValueError, SafetensorError) as error:
        _LOG.warning("memory and time are not estimated: %s", error)
        return None


def _stored(directory: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors by name, from the headers of the weight files."""
    found: dict[str, tuple[int, ...]] = {}
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            found |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return found


def _check_code_elsewhere(directory: Path, uri: str) -> None:
    """Code of the model's own is never there to be run; code of another repository would be downloaded by loaders."""
    for path in sorted(directory.glob("*config.json")):
        classes = _read_json(path, uri).get("auto_map") or {}
        for name in _texts(classes):
            if "--" in name:
                raise UserMistake(
                    "RemoteCode",
                    f"{path.name} of the base model {uri} names Python code of another repository ({name[:100]}), which"
                    " some servers would load: remove auto_map from it",
                )


def _texts(value: Any) -> list[str]:
    """All strings below a JSON value."""
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value] if isinstance(value, str) else [text for entry in below for text in _texts(entry)]


def published_name(uri: str) -> tuple[str, str | None]:
    """(name, revision) under which loaders and hubs know a base model: of hf://owner/name:commit, its parts."""
    where = parse(uri)
    return (where.repository, where.revision) if isinstance(where, HubModel) else (uri, None)


def stop_tokens(directory: Path) -> list[int]:
    """Tokens at which generation ends by generation_config.json, beyond the tokenizer's own."""
    path = directory / "generation_config.json"
    if not path.exists():
        return []
    ends = _read_json(path, directory.name).get("eos_token_id")
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


def longest_context(directory: Path) -> int | None:
    """The most tokens that the model can look at, or None where its configuration sets no limit."""
    config = _read_json(directory / "config.json", directory.name)
    limit = (config.get("text_config") or config).get("max_position_embeddings")
    return limit if isinstance(limit, int) else None


def load(model: MountedPath, dtype: torch.dtype | str, device: torch.device, quantisation: Any = None) -> Any:
    """The model with frozen weights; the dtype "auto" is that of its files. `quantisation` is transformers' own.

    Raises UserMistake when weights are missing or broken.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        loaded, info = _loader(Path(model.path)).from_pretrained(
            model.path,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            device_map={"": device},
            quantization_config=quantisation,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserMistake("ModelUnusable", f"the base model {model.uri} cannot be loaded: {error}") from error
    if missing := sorted(info["missing_keys"]):
        raise UserMistake(
            "ModelUnusable",
            f"the base model {model.uri} is not complete: it has no weights for {len(missing)} tensors, first"
            f" {missing[0]}",
        )
    loaded.requires_grad_(requires_grad=False)
    loaded.config.use_cache = False
    return loaded


def _loader(directory: Path) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    kind = _read_json(directory / "config.json", directory.name).get("model_type")
    return AutoModelForImageTextToText if kind in _SEEING else AutoModelForCausalLM
