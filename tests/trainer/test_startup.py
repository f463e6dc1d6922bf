"""What a start leaves out, in a process of its own, since what is imported stays imported."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

PROGRAM = """
import sys
from anneal.api.methods import Method
from anneal_trainer.startup import leave_out_unused
leave_out_unused(Method.model_validate_json(sys.argv[1]))
from peft.tuners.lora import LoraLayer
print("torch._inductor.compile_fx" in sys.modules, sys.modules.get("bitsandbytes") is not None)
"""


def started(method: str) -> str:
    """(whether torch's compiler was imported, whether bitsandbytes is there)."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, method], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_bitsandbytes_is_there_for_those_that_keep_something_in_few_bits() -> None:
    methods = ('{"lora": {}}', '{"full": {}}', '{"qlora": {}}', '{"full": {"optimizer": "AdamW8bit"}}')
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(started, methods)) == 2 * ["False False"] + 2 * ["True True"]
