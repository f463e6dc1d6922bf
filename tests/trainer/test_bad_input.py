"""Every mistake that a user can make with data, model or settings ends in its own sentence and is not retried."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.trainer.job import FAST, Job, prompt_rows

from anneal.api.dataset import DatasetExpectations, DatasetSplit, Deduplication
from anneal.api.methods import Lora, Method
from anneal.api.runs import EXIT_USER_MISTAKE, RunResult, parse_result
from anneal_trainer.__main__ import main
from anneal_trainer.preemption import Preemption
from anneal_trainer.program import run
from anneal_trainer.termination import exit_code


def refused(result: RunResult, reason: str, sentence: str) -> None:
    assert (result.outcome, result.reason) == ("Failed", reason), result.message
    assert sentence in result.message
    assert exit_code(result) == EXIT_USER_MISTAKE


def valid(line: int, row: Any) -> list[Any]:
    """Twenty-four good rows with `row` at `line`."""
    rows: list[Any] = prompt_rows(24)
    rows[line - 1] = row
    return rows


@dataclass(frozen=True)
class BadRow:
    row: Any
    sentence: str


BAD_ROWS = {
    "broken JSON": BadRow('{"prompt": "a" "completion": "b"}', "broken JSON (Expecting ',' delimiter at column 16)"),
    "a huge number": BadRow('{"prompt": ' + "1" * 5000 + "}", "broken JSON (Exceeds the limit"),
    "not an object": BadRow('["a", "b"]', "not a JSON object"),
    "not text": BadRow(b'{"prompt": "\xff"}', "not UTF-8 text (byte 13)"),
    "half a surrogate": BadRow(r'{"prompt": "\ud800", "completion": "a"}', "half of a surrogate pair"),
    "unknown shape": BadRow({"q": "a", "a": "b"}, "unknown shape: it has q, a; expected messages"),
    "a key that is half a surrogate": BadRow(r'{"\ud800": 1}', "unknown shape: it has ?"),
    "preference data": BadRow({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference data"),
    "ShareGPT without turns": BadRow({"conversations": []}, "no messages"),
    "a ShareGPT tool call": BadRow(
        {"conversations": [{"from": "function_call", "value": "{}"}]}, "a tool call in message 1 is not an object"
    ),
    "plain text": BadRow({"text": "a"}, "plain text: a row needs a question and an answer"),
    "no answer": BadRow({"prompt": "a"}, "no answer: it has prompt, but no completion, response or output"),
    "no output": BadRow({"instruction": "a"}, "no answer: it has instruction"),
    "an empty answer": BadRow({"prompt": "a", "completion": "  "}, "the answer in message 2 is empty"),
    "two answers": BadRow(
        {"prompt": "a", "completion": "b", "response": "c"},
        'both "completion" and "response", and only one can be the answer',
    ),
    "an answer that is a number": BadRow({"prompt": "a", "completion": 1}, '"completion" is a number, not a text'),
    "a history of texts": BadRow(
        {"instruction": "a", "output": "b", "history": ["c", "d"]},
        '"history" has a text where a list of question and answer is expected',
    ),
    "no messages": BadRow({"messages": []}, "no messages"),
    "messages that are no list": BadRow({"messages": {}}, '"messages" is an object, not a list'),
    "a message without a role": BadRow({"messages": [{"content": "a"}]}, "message 1 has no role"),
    "content in parts": BadRow(
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
        "the content of message 1 is a list, not a text",
    ),
    "an unknown role": BadRow({"messages": [{"role": "robot", "content": "a"}]}, "the role of message 1 is 'robot'"),
    "a tool call of nothing": BadRow(
        {"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]},
        "a tool call in message 1 is not an object with name and arguments",
    ),
    "roles out of order": BadRow(
        {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]},
        "roles out of order: message 2 is from user, expected assistant",
    ),
    "no last answer": BadRow(
        {"messages": [{"role": "user", "content": "a"}]}, "no answer: the last message is from user"
    ),
    "a late system message": BadRow(
        {"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}, "message 2 is from system"
    ),
    "a control token": BadRow(
        {"prompt": "a<|end|>", "completion": "b"}, "message 1 contains the control token '<|end|>'"
    ),
    "too long": BadRow({"prompt": "a" * 200, "completion": "b"}, "tokens, at most 128 (training.maxLength)"),
}


def not_its_bytes(value: object) -> str | None:
    """Names of cases hold no content of files: it may be long, and another in each process."""
    return "file" if isinstance(value, bytes) else None


@pytest.mark.parametrize("bad", BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_row_is_named_by_its_line(job: Job, bad: BadRow) -> None:
    job.rows = valid(17, bad.row)
    result = job.do(job.prepare_run())
    refused(result, "InvalidRows", "1 of 24 rows is invalid (limit 0): line 17 of pvc://hub/rows.jsonl: ")
    assert bad.sentence in result.message
    rejected = [json.loads(line) for line in (job.workspace / "data" / "rejected.jsonl").read_text().splitlines()]
    assert [(r["source"], r["line"]) for r in rejected] == [("pvc://hub/rows.jsonl", 17)]


def test_the_first_few_of_many_bad_rows_are_shown(job: Job) -> None:
    job.rows = [*prompt_rows(20), *["{"] * 50]
    result = job.do(job.prepare_run())
    refused(result, "InvalidRows", "50 of 70 rows are invalid (limit 0): line 21 of")
    assert result.message.count("broken JSON") == 3
    assert "raise dataset.expect.maxInvalidRows" in result.message


def test_bad_rows_within_the_limit_are_left_out(job: Job) -> None:
    job.rows, job.expect = valid(17, "{"), DatasetExpectations(max_invalid_rows=1)
    prepared = job.prepared()
    assert prepared.dataset.counts.model_dump(include={"read", "invalid", "train", "held_out"}) == {
        "read": 24,
        "invalid": 1,
        "train": 17,
        "held_out": 6,
    }


@pytest.mark.parametrize("near", ["Drop", "Group", "Ignore"])
def test_where_every_row_is_bad_and_may_be_it_is_said_that_none_is_left(
    job: Job, near: Literal["Drop", "Group", "Ignore"]
) -> None:
    job.rows, job.expect = ["{"] * 3, DatasetExpectations(max_invalid_rows=3)
    job.deduplication = Deduplication(near=near)
    refused(job.do(job.prepare_run()), "TooFewExamples", "there are only 0 valid rows")


@pytest.mark.parametrize(
    ("content", "reason", "sentence"),
    [
        (b"", "EmptyDataset", "the dataset is empty: no rows in pvc://hub/rows.jsonl"),
        (b"\n  \n", "EmptyDataset", "the dataset is empty"),
        (b'[{"prompt": "a"', "InvalidData", "element 1 of pvc://hub/rows.jsonl is broken JSON"),
        (b"[" * 100_000, "InvalidData", "element 1 of pvc://hub/rows.jsonl is broken JSON (nested too deeply)"),
        (b'[{"prompt": "\xff"}]', "InvalidData", "pvc://hub/rows.jsonl is not UTF-8 text after element 0"),
        (b'[{"prompt": "' + b"a" * 50_000_000, "InvalidData", "element 1 of pvc://hub/rows.jsonl is broken JSON, or"),
        (b"prompt,response\na," + b"a" * 50_000_000, "InvalidData", "broken CSV: field larger than field limit"),
        ("prompt,response\na,b".encode("utf-16"), "InvalidData", "looks like UTF-16 or UTF-32: save it as UTF-8"),
        ('{"prompt": "a"}'.encode("utf-32-le"), "InvalidData", "looks like UTF-16 or UTF-32: save it as UTF-8"),
        (
            b"fr\xe5ga,svar\na,b",
            "InvalidData",
            "the header of pvc://hub/rows.jsonl, which is taken for CSV, is not UTF-8",
        ),
        (gzip.compress(gzip.compress(b"{}")), "InvalidData", "is packed twice: unpack it first"),
        (b"\x1f\x8b\x08", "InvalidData", "is compressed, but broken"),
        (b"PAR1...", "InvalidData", "is a Parquet file, but cannot be read"),
        (b"PK\x03\x04", "InvalidData", "is a zip archive; unpack it first"),
        (b'prompt,response\na,"b', "InvalidData", "is broken CSV: unexpected end of data"),
        (b"prompt,prompt\na,b", "InvalidData", "is CSV with two columns of one name"),
    ],
    ids=not_its_bytes,
)
def test_a_bad_file_is_named(job: Job, content: bytes, reason: str, sentence: str) -> None:
    document = job.document(job.prepare_run())
    (job.root / "rows.jsonl").write_bytes(content)
    refused(run(document, Preemption()), reason, sentence)


def test_a_file_that_is_not_there_is_named(job: Job) -> None:
    document = job.document(job.prepare_run())
    (job.root / "rows.jsonl").unlink()
    refused(run(document, Preemption()), "SourceNotFound", "the dataset pvc://hub/rows.jsonl is not there")


@pytest.mark.parametrize(
    ("split", "expect", "sentence"),
    [
        (24, 1, "dataset.split.heldOut is 24, but there are only 24 valid rows"),
        (150, 1, "dataset.split.heldOut is 150, but there are only 24 valid rows"),
        (6, 19, "18 rows to train on (24 valid, 6 held out), fewer than dataset.expect.minExamples (19)"),
    ],
)
def test_too_few_rows_are_counted(job: Job, split: int, expect: int, sentence: str) -> None:
    job.split, job.expect = DatasetSplit(held_out=split), DatasetExpectations(min_examples=expect)
    refused(job.do(job.prepare_run()), "TooFewExamples", sentence)


def pickled_only(model: Path) -> None:
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()


def change_config(**changes: Any) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        path = model / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def index_of_two(model: Path) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


def linked(model: Path) -> None:
    (model / "tokenizer.json").rename(model / "blob")
    (model / "tokenizer.json").symlink_to("blob")


BAD_MODELS: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "not there": (shutil.rmtree, "ModelNotFound", "the base model pvc://hub/tiny is not there"),
    "no config": (lambda m: (m / "config.json").unlink(), "ModelUnusable", "has no config.json"),
    "broken config": (lambda m: (m / "config.json").write_text("{"), "ModelUnusable", "is broken JSON"),
    "pickles only": (pickled_only, "PickledWeights", "has pickled weights only (pytorch_model.bin)"),
    "no weights": (lambda m: (m / "model.safetensors").unlink(), "ModelUnusable", "has no weights"),
    "a weight file missing": (index_of_two, "ModelUnusable", "1 of its 2 weight files are missing"),
    "its own code": (
        change_config(model_type="mine", auto_map={"AutoModel": "mine.Mine"}),
        "RemoteCode",
        "needs Python code of its own (auto_map in config.json), which is never run",
    ),
    "unknown type": (change_config(model_type="mine"), "ModelUnusable", "is of type 'mine'"),
    "not a language model": (change_config(model_type="vit"), "ModelUnusable", "is no causal language model"),
    "quantised": (change_config(quantization_config={"bits": 4}), "ModelUnusable", "is quantised"),
    "symbolic links": (linked, "ModelUnusable", "is a symbolic link"),
    "no tokenizer": (lambda m: [p.unlink() for p in m.glob("tokenizer*")], "TokenizerUnusable", "cannot be loaded"),
}


@pytest.mark.parametrize("bad", BAD_MODELS.values(), ids=BAD_MODELS)
def test_a_bad_model_is_named_before_any_training(
    job: Job, tmp_path: Path, bad: tuple[Callable[[Path], Any], str, str]
) -> None:
    spoil, reason, sentence = bad
    job.base = Path(shutil.copytree(job.base, tmp_path / "model"))
    spoil(job.base)
    refused(job.do(job.prepare_run()), reason, sentence)


def test_weights_that_lack_a_tensor_are_not_made_up(job: Job, tmp_path: Path) -> None:
    job.base = Path(shutil.copytree(job.base, tmp_path / "model"))
    weights = job.base / "model.safetensors"
    save_file({k: v for k, v in load_file(weights).items() if "q_proj" not in k}, weights, metadata={"format": "pt"})
    refused(job.fitted(), "ModelUnusable", "it has no weights for 2 tensors, first model.layers.0.self_attn.q_proj")


def test_a_model_that_changed_since_prepare_is_refused(job: Job, tmp_path: Path) -> None:
    job.base = Path(shutil.copytree(job.base, tmp_path / "model"))
    fit = job.fit_run(job.prepared())
    change_config(rope_theta=1.0)(job.base)
    refused(job.do(fit), "ModelChanged", "pvc://hub/tiny changed after the data was prepared")


def test_rows_that_changed_since_prepare_are_refused(job: Job) -> None:
    fit = job.fit_run(job.prepared())
    (job.workspace / "data" / "train.safetensors").write_bytes(b"")
    refused(job.do(fit), "WorkspaceChanged", "create the job anew")


def test_target_modules_that_match_nothing_are_named_beside_those_that_exist(job: Job) -> None:
    job.method = Method(lora=Lora(target_modules=["q_proj", "query"]))
    result = job.fitted()
    refused(result, "NoSuchModules", "lora.targetModules names 'query'")
    assert "it has down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in result.message


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"learning_rate": "0"}, "training.learningRate is 0"), ({"max_grad_norm": "0"}, "training.maxGradNorm is 0")],
)
def test_settings_that_learn_nothing_are_refused(job: Job, changes: dict[str, str], sentence: str) -> None:
    job.training = FAST.model_copy(update=changes)
    refused(job.fitted(), "InvalidSettings", sentence)


def test_a_loss_that_is_no_number_ends_the_run_at_its_step(job: Job) -> None:
    job.training = FAST.model_copy(update={"learning_rate": "1e30", "warmup_steps": 0})
    result = job.fitted()
    refused(result, "LossNotFinite", "of 6: lower training.learningRate (now 1e30)")


def test_an_invalid_document_names_the_field(job: Job) -> None:
    document = job.document(job.fit_run(job.prepared()))
    text = json.loads(document.read_text())
    text["training"]["learningRate"] = "abc"
    document.write_text(json.dumps(text))
    result = run(document, Preemption())
    assert result.role == "fit"
    refused(result, "InvalidRun", "fit.training.learningRate: Value error, must be a decimal number")


def test_an_occupied_output_is_not_overwritten(job: Job) -> None:
    first = job.published()
    assert first.publish is not None
    folder = job.output / first.publish.uri.rpartition("/")[2]
    (folder / "adapter_config.json").write_text("{}")
    result = job.published()
    refused(result, "OutputOccupied", "adapter_config.json of the artifact was changed after it was published")
    assert (folder / "adapter_config.json").read_text() == "{}"
    assert [p.name for p in job.output.iterdir() if not p.name.endswith(".partial")] == [folder.name]


def test_there_is_a_result_even_without_a_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNEAL_RUN_FILE", str(tmp_path / "none.json"))
    monkeypatch.setenv("ANNEAL_TERMINATION_FILE", str(tmp_path / "end"))
    assert main() == 1
    result = parse_result((tmp_path / "end").read_text())
    assert (result.outcome, result.retryable) == ("Failed", True)
    assert "none.json" in result.message
