"""Which directories a served model consists of: weights, adapter, tokenizer. The same for every server."""

from __future__ import annotations

from pathlib import Path

from anneal.api.artifacts import read_manifest
from anneal.api.runs import ServedModel

#: A directory with this file has a tokenizer of its own.
TOKENIZER_FILE = "tokenizer_config.json"


def parts_of(model: ServedModel) -> tuple[str, str]:
    """(model, adapter): directories to load from; an artifact that is a whole model takes the place of its base."""
    if model.adapter is None:
        return model.base.path, ""
    if read_manifest(Path(model.adapter.path)).contents == "Model":
        return model.adapter.path, ""
    return model.base.path, model.adapter.path


def tokenizer_of(model: ServedModel, models: list[ServedModel]) -> str:
    """Directory whose tokenizer and chat template render this model's prompts.

    An artifact brings its own. A bare base that is served beside an artifact tuned from it uses the artifact's too:
    two models are comparable only when they are asked the same rendered prompt, and a template that differs by a word
    moves scores by several points.
    """
    tuned = [m.adapter for m in (model, *models) if m.adapter is not None and m.base_digest == model.base_digest]
    for location in tuned if model.adapter is None else tuned[:1]:
        if (Path(location.path) / TOKENIZER_FILE).is_file():
            return location.path
    return model.base.path
