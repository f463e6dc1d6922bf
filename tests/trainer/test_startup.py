"""What a start leaves out."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.trainer.job import Job, environment

from anneal.api.methods import Method
from anneal.api.runs import parse_result
from anneal_trainer.startup import leave_out_torch, leave_out_unused

#: Ends with the program's own exit code, or 9 when something is imported that preparing data does not need.
PREPARE = """
import sys
from anneal_trainer.__main__ import main
code = main()
found = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
needless = found & {"torch", "aiohttp", "datasets", "peft", "pyarrow", "py3langid"}
print(sorted(needless))
sys.exit(code or 9 * bool(needless))
"""

#: Tells of the modules that were imported before work began and of those after; ends with the program's own exit code.
FIT = """
import gc, json, sys
from anneal_trainer import program
from anneal_trainer.__main__ import main
again, early = program.collect_again, set()
def watched():
    early.update(sys.modules)
    again()
program.collect_again = watched
code = main()
there = {name for name, module in sys.modules.items() if module is not None}
found = {"early": sorted(there & early), "late": sorted(there - early)}
print("FOUND", json.dumps(found | {"collects": gc.isenabled(), "frozen": gc.get_freeze_count()}))
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("method", "needless"),
    [
        ({"lora": {"rank": 4}}, {"bitsandbytes"}),
        ({"full": {}}, {"bitsandbytes", "peft"}),
        ({"qlora": {"rank": 4}}, set()),
    ],
    ids=["lora", "full", "qlora"],
)
def test_training_imports_what_it_needs_and_all_of_it_before_it_begins(
    method: dict[str, object], needless: set[str], job: Job, tmp_path: Path
) -> None:
    """Every rank of every start pays for it: what is imported late is looked through for garbage each time it grows."""
    job.method = Method.model_validate(method)
    run, end = job.fit_run(job.prepared()), tmp_path / "end"
    alone = subprocess.run(
        [sys.executable, "-c", FIT],
        env=environment(job.document(run), end),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert alone.returncode == 0, alone.stdout[-2000:]
    found = json.loads(alone.stdout.partition("FOUND ")[2])
    there = {*found["early"], *found["late"]}
    roots = {name.partition(".")[0] for name in there}
    needless = needless | {"datasets", "matplotlib", "pandas", "sklearn", "tensorboard", "torchvision"}
    assert not roots & needless, "needed by nothing that trains: import it where it is used"
    assert ("torch._inductor.compile_fx" in there) == ("qlora" in method), "only bitsandbytes needs torch's compiler"
    late = [name for name in found["late"] if name.partition(".")[0] in {"torch", "transformers", "peft", "scipy"}]
    assert len(late) < 100, f"import these in startup.py, with the others: {late}"
    assert found["collects"]
    assert found["frozen"] > 100_000


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


def test_data_is_prepared_without_torch_to_the_same_bytes(job: Job, tmp_path: Path) -> None:
    """Here torch is there, in the program's own process it is not."""
    run, end = job.prepare_run(), tmp_path / "end"
    expected = job.do(run)
    assert expected.outcome == "Succeeded", expected.message
    with_torch = tmp_path / "with-torch"
    job.workspace.rename(with_torch)
    alone = subprocess.run(
        [sys.executable, "-c", PREPARE], env=environment(job.document(run), end), capture_output=True, timeout=300
    )
    assert alone.returncode == 0, alone.stdout.decode()[-2000:]
    assert parse_result(end.read_text()) == expected
    files = sorted(p.relative_to(with_torch) for p in with_torch.rglob("*") if p.is_file())
    assert len(files) >= 4
    assert files == sorted(p.relative_to(job.workspace) for p in job.workspace.rglob("*") if p.is_file())
    for path in files:
        assert (job.workspace / path).read_bytes() == (with_torch / path).read_bytes(), path


def test_a_process_that_has_torch_already_keeps_it() -> None:
    leave_out_torch()
    assert sys.modules["torch"] is torch
