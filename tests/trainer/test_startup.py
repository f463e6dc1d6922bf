"""What a start leaves out."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from anneal.api.methods import Method
from anneal_trainer.startup import leave_out_unused

PROGRAM = """
import sys
from anneal.api.methods import Method
from anneal_trainer.startup import leave_out_unused
leave_out_unused(Method.model_validate({"lora": {}}))
from peft.tuners.lora import LoraLayer
sys.exit("torch._inductor.compile_fx" in sys.modules)
"""


@pytest.mark.parametrize(
    ("method", "is_there"),
    [
        ({"lora": {}}, False),
        ({"full": {}}, False),
        ({"qlora": {}}, True),
        ({"full": {"optimizer": "AdamW8bit"}}, True),
    ],
)
def test_bitsandbytes_is_there_for_those_that_keep_something_in_few_bits(
    method: dict[str, object], is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("peft", "bitsandbytes"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "bitsandbytes", sys)  # so that it is put back
    monkeypatch.delitem(sys.modules, "bitsandbytes")
    leave_out_unused(Method.model_validate(method))
    assert (importlib.util.find_spec("bitsandbytes") is not None) is is_there


def test_a_process_that_has_peft_already_keeps_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", sys)
    leave_out_unused(Method.model_validate({"lora": {}}))
    assert importlib.util.find_spec("bitsandbytes") is not None


def test_peft_then_does_without_the_compiler_of_torch() -> None:
    """In a process of its own, since what is imported stays imported."""
    assert subprocess.run([sys.executable, "-c", PROGRAM], timeout=300).returncode == 0
