"""What a start does not wait for. Every resume is a start, and of several ranks each makes its own."""

from __future__ import annotations

import sys

from anneal.api.methods import Method


def leave_out_unused(method: Method) -> None:
    """Hides bitsandbytes from PEFT where nothing is kept in 4 or 8 bits.

    PEFT imports it wherever it is installed, and with it the compiler of torch: a quarter of the processor time of a
    start. None in sys.modules is how Python says that there is no such module. Once PEFT is imported nothing is gained.
    """
    in_8_bits = method.full is not None and method.full.optimizer == "AdamW8bit"
    if method.qlora is None and not in_8_bits and "peft" not in sys.modules:
        sys.modules["bitsandbytes"] = None  # type: ignore[assignment]


def leave_out_torch() -> None:
    """Hides torch from transformers where no model is loaded.

    Tokenizers and templates need none, and transformers is made to work without it; importing torch takes more
    processor time than preparing 5,000 rows. A process that has one of the two already gains nothing and keeps both.
    """
    if sys.modules.keys().isdisjoint({"torch", "transformers"}):
        sys.modules["torch"] = None  # type: ignore[assignment]


def import_tokenizers() -> None:
    """Imports what prepares data, all at once: what comes later is imported while garbage is collected."""
    import transformers.models.auto.modeling_auto
    import transformers.models.auto.tokenization_auto
    import transformers.utils.chat_template_utils  # noqa: F401


def import_models(*, adapters: bool) -> None:
    """Imports what loads a model, and what puts adapters into it, all at once as `import_tokenizers` does."""
    import transformers.generation.utils
    import transformers.modeling_layers
    import transformers.models.auto.modeling_auto  # noqa: F401

    if adapters:
        import peft  # noqa: F401


def import_launcher() -> None:
    """Imports what starts ranks, all at once as `import_tokenizers` does."""
    import torch.distributed.launcher.api  # noqa: F401
