"""prepare, fit, publish on a real (tiny) model: what comes out, and that it comes out the same whatever happens."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tests.trainer.job import FAST, Job, environment
from tests.unit.evaluator.builders import evaluate_run
from transformers import AutoModelForCausalLM, AutoTokenizer

from anneal.api.artifacts import HELD_OUT_FILE, digest_of_file, verify_artifact
from anneal.api.methods import Lora, Method
from anneal.api.runs import EXIT_PREEMPTED, parse_result
from anneal.api.training import CheckpointPolicy
from anneal_evaluator.origin import origin
from anneal_trainer.preemption import Preemption


def folders(job: Job) -> list[str]:
    return sorted(p.name for p in (job.workspace / "checkpoints").iterdir())


def outcome(job: Job) -> dict[str, Any]:
    """All that training leaves: adapter, moments, losses."""
    last = job.workspace / "checkpoints" / folders(job)[-1]
    state = json.loads((last / "state.json").read_text())
    return {
        "step": state["step"],
        "losses": [{key: point[key] for key in ("step", "loss_sum", "tokens", "computed")} for point in state["curve"]],
        "adapter": digest_of_file(last / "adapter_model.safetensors"),
        "moments": digest_of_file(last / "optimizer.safetensors"),
    }


class AfterPasses(Preemption):
    """The pod is asked to go after a number of passes."""

    def __init__(self, passes: int) -> None:
        self._left = passes

    @property
    def requested(self) -> bool:  # type: ignore[override]
        self._left -= 1
        return self._left < 0


def test_the_artifact_is_a_model_that_peft_loads_and_that_has_learned(job: Job) -> None:
    job.training = FAST.model_copy(update={"max_steps": 60})
    result = job.published()
    assert result.publish is not None, result.message
    folder = job.output / result.publish.uri.rpartition("/")[2]
    assert folder.name == result.publish.digest.removeprefix("sha256:")[:16]
    manifest = verify_artifact(folder, result.publish.digest)
    assert {f.path for f in manifest.files} >= {"adapter_model.safetensors", "chat_template.jinja", "tokenizer.json"}
    assert result.publish.size_bytes == sum((folder / f.path).stat().st_size for f in manifest.files)

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(job.base), folder)
    question = [{"role": "user", "content": job.rows[4]["prompt"]}]
    asked = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**asked, max_new_tokens=6, do_sample=False)[0, asked["input_ids"].shape[1] :]
    assert tokenizer.decode(answer).startswith("On")

    held_out = [json.loads(line) for line in (folder / HELD_OUT_FILE).read_text().splitlines()]
    assert len(held_out) == result.publish.held_out_count == 6
    assert set(held_out[0]) == {"id", "messages", "reference"}
    card = (folder / "README.md").read_text()
    assert result.publish.digest in card
    assert "24 rows read, 0 invalid, 18 trained on, 6 held out" in card
    found = evaluate_run(artifact={"uri": "pvc://m/a", "path": str(folder)}, candidateDigest=result.publish.digest)
    told = origin(found)
    assert told["unknown"] is None
    assert (told["data"]["counts"]["read"], told["data"]["counts"]["heldOut"], told["trained"]["steps"]) == (24, 6, 60)


def test_every_run_done_twice_gives_the_same(job: Job) -> None:
    first = job.published()
    again = job.published()
    assert again == first
    assert len(list(job.output.iterdir())) == 1
    other = replace(job, root=job.root / "other")
    other.root.mkdir()
    other.rows = job.rows[::-1]  # neither the order of rows nor the place matters
    assert other.published().publish == first.publish


def test_stopping_between_any_two_passes_and_going_on_changes_no_bit(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anneal_trainer.fit.passes.CPU_PASS_TOKENS", 64)  # several passes a step
    job.method = Method(lora=Lora(rank=4, alpha=8, dropout="0.1"))
    prepared = job.prepared()
    run = job.fit_run(prepared)
    assert job.do(run).outcome == "Succeeded"
    uninterrupted = outcome(job)
    stops = 0
    for passes in range(0, 50, 3):
        shutil.rmtree(job.workspace / "checkpoints")
        result = job.do(run, AfterPasses(passes + 1))  # one is asked while the model is loaded
        if result.outcome == "Succeeded":
            break
        stops += 1
        assert result.fit is not None
        assert result.message == f"preempted at step {result.fit.checkpoint_step} of 6"
        assert job.do(run).outcome == "Succeeded"
        assert outcome(job) == uninterrupted
    assert stops >= 4


def test_sigterm_saves_and_says_at_which_step(job: Job) -> None:
    job.training = FAST.model_copy(
        update={"max_steps": 1_000_000, "checkpoint": CheckpointPolicy(every_steps=1_000_000, keep=1)}
    )
    document, termination = job.document(job.fit_run(job.prepared())), job.root / "termination-log"
    command = [sys.executable, "-m", "anneal_trainer"]
    with subprocess.Popen(command, env=environment(document, termination), stdout=subprocess.PIPE, text=True) as pod:
        assert pod.stdout is not None
        assert any("trainable parameters" in line for line in pod.stdout)  # training begins
        time.sleep(1.0)
        pod.send_signal(signal.SIGTERM)
        assert pod.wait(timeout=30) == EXIT_PREEMPTED
    result = parse_result(termination.read_text())
    assert (result.outcome, result.reason) == ("Preempted", "Preempted")
    assert result.fit is not None
    step = result.fit.checkpoint_step
    assert step > 0
    assert result.message == f"preempted at step {step} of 1000000"
    assert folders(job) == [f"step-{step:08d}"]


def test_the_newest_checkpoint_that_is_whole_serves_and_status_tells(
    job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    run = job.fit_run(job.prepared())
    job.do(run)
    whole = outcome(job)
    assert folders(job) == ["step-00000004", "step-00000006"]
    weights = job.workspace / "checkpoints" / "step-00000006" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    result = job.do(run)
    said = "checkpoint step-00000006 is passed over: adapter_model.safetensors in it is not what was saved"
    assert said in caplog.text
    assert result.fit is not None
    assert said in (result.fit.training.remarks or [])
    assert (result.outcome, result.fit.resumes) == ("Succeeded", 1)
    assert outcome(job) == whole


class Marks:
    """What a pickle does when it is read: it leaves a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (self.path, "w")


def test_nothing_in_a_checkpoint_is_ever_run(job: Job, tmp_path: Path) -> None:
    run = job.fit_run(job.prepared())
    job.do(run)
    whole = outcome(job)
    last = job.workspace / "checkpoints" / "step-00000006"
    shutil.rmtree(last.with_name("step-00000004"))
    torch.save({"moments": Marks(str(tmp_path / "was-run"))}, last / "optimizer.safetensors")
    state = json.loads((last / "state.json").read_text())
    (last / "state.json").write_text(json.dumps({**state, "step": 4}))  # not yet done, so it has to be read
    manifest = json.loads((last / "checkpoint.json").read_text())
    manifest["files"] = {name: digest_of_file(last / name) for name in manifest["files"]}
    (last / "checkpoint.json").write_text(json.dumps(manifest))
    result = job.do(run)
    assert result.fit is not None, result.message
    assert "optimizer.safetensors in it is not safetensors" in " ".join(result.fit.training.remarks or [])
    assert outcome(job) == whole
    assert not (tmp_path / "was-run").exists()


def test_a_checkpoint_of_other_settings_does_not_serve(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    prepared = job.prepared()
    job.do(job.fit_run(prepared))
    job.training = FAST.model_copy(update={"learning_rate": "5e-3"})
    job.do(job.fit_run(prepared))
    assert "it has other data or settings" in caplog.text
    fresh = outcome(job)
    shutil.rmtree(job.workspace / "checkpoints")
    job.do(job.fit_run(prepared))
    assert outcome(job) == fresh


def test_a_model_without_a_chat_template_gets_the_default_one(job: Job, tmp_path: Path) -> None:
    job.base = Path(shutil.copytree(job.base, tmp_path / "bare"))
    (job.base / "chat_template.jinja").unlink()
    result = job.published()
    assert result.publish is not None, result.message
    folder = job.output / result.publish.uri.rpartition("/")[2]
    text = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "### User:\nhi\n\n### Assistant:\n"


def test_bfloat16_trains_with_adapters_in_float32(job: Job) -> None:
    job.training = FAST.model_copy(update={"precision": "BF16"})
    result = job.fitted()
    assert result.outcome == "Succeeded", result.message
    last = job.workspace / "checkpoints" / "step-00000006"
    assert {t.dtype for t in load_file(last / "adapter_model.safetensors").values()} == {torch.float32}
    curve = json.loads((last / "state.json").read_text())["curve"]
    assert curve[-1]["loss_sum"] / curve[-1]["tokens"] < curve[0]["loss_sum"] / curve[0]["tokens"]
