"""Every kind of file that examples come in gives the same rows, and status says what it was taken for."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Callable
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from tests.trainer.job import Job, prompt_rows
from tests.trainer.test_bad_input import refused

from anneal.api.dataset import Columns, DatasetExpectations
from anneal.api.runs import PrepareData

Rows = list[dict[str, Any]]
ROWS: Rows = [*prompt_rows(24), {"prompt": 'say "hi",\nthen é', "completion": "hi; é"}]


def json_lines(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_csv(rows: Rows, delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_parquet(rows: Rows) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue()


def chats_of(rows: Rows) -> list[Rows]:
    return [[{"role": "user", "content": r["prompt"]}, {"role": "assistant", "content": r["completion"]}] for r in rows]


def zstd(content: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


FILES: dict[str, tuple[Callable[[Rows], bytes], str]] = {
    "JSON Lines": (json_lines, "JSON Lines"),
    "with a byte order mark": (lambda rows: b"\xef\xbb\xbf" + json_lines(rows), "JSON Lines"),
    "a JSON array": (lambda rows: json.dumps(rows).encode(), "a JSON array"),
    "a printed JSON array": (lambda rows: json.dumps(rows, indent=2).encode(), "a JSON array"),
    "CSV": (as_csv, "CSV separated by commas"),
    "CSV of a European spreadsheet": (lambda rows: as_csv(rows, ";"), "CSV separated by semicolons"),
    "TSV": (lambda rows: as_csv(rows, "\t"), "CSV separated by tabs"),
    "Parquet": (as_parquet, "Parquet"),
    "gzip": (lambda rows: gzip.compress(json_lines(rows)), "JSON Lines in gzip"),
    "gzip of CSV": (lambda rows: gzip.compress(as_csv(rows)), "CSV separated by commas in gzip"),
    "zstd": (lambda rows: zstd(json_lines(rows)), "JSON Lines in zstd"),
}


def prepared(job: Job, content: bytes) -> PrepareData:
    job.content = content
    return job.prepared()


@pytest.mark.parametrize(("write", "kind"), FILES.values(), ids=FILES)
def test_every_kind_of_file_gives_the_same_rows(job: Job, write: Callable[[Rows], bytes], kind: str) -> None:
    expected = prepared(job, json_lines(ROWS)).dataset
    found = prepared(job, write(ROWS)).dataset
    assert (found.digest, found.test_digest) == (expected.digest, expected.test_digest)
    assert found.sources is not None
    assert found.sources[0].detected == f"{kind}; PromptCompletion, by its keys"
    assert found.sources[0].rows == 25


@pytest.mark.parametrize("write", [json_lines, as_csv, as_parquet], ids=["JSON Lines", "CSV", "Parquet"])
def test_columns_may_have_names_of_their_own(job: Job, write: Callable[[Rows], bytes]) -> None:
    rows = [{"id": str(i), "frage": r["prompt"], "antwort": r["completion"]} for i, r in enumerate(ROWS)]
    expected = prepared(job, json_lines(ROWS)).dataset.digest
    job.columns = Columns(prompt="frage", completion="antwort")
    found = prepared(job, write(rows)).dataset
    assert found.digest == expected
    assert found.sources is not None
    assert found.sources[0].detected.endswith("; PromptCompletion, by columns")


def test_conversations_in_a_cell_are_read(job: Job) -> None:
    turns = chats_of(ROWS)
    expected = prepared(job, json_lines([{"messages": t} for t in turns])).dataset.digest
    assert prepared(
        job, as_csv([{"messages": json.dumps(t), "id": i} for i, t in enumerate(turns)])
    ).dataset.digest == (expected)
    assert prepared(job, as_parquet([{"messages": t, "id": i} for i, t in enumerate(turns)])).dataset.digest == expected


def test_a_file_of_two_formats_is_said_to_be_one(job: Job) -> None:
    other = [{"instruction": r["prompt"], "output": r["completion"]} for r in prompt_rows(5)]
    found = prepared(job, json_lines([*prompt_rows(24)[5:], *other])).dataset
    assert found.sources is not None
    assert found.sources[0].detected == "JSON Lines; Alpaca (5 rows), PromptCompletion (19 rows), by its keys"


def test_a_column_that_half_the_rows_lack_is_counted_and_named(job: Job) -> None:
    job.rows = [r if i % 2 else {"prompt": r["prompt"]} for i, r in enumerate(prompt_rows(24))]
    sentence = "12 of 24 rows are invalid (limit 0): line 1 of pvc://hub/rows.jsonl: no answer: it has prompt"
    refused(job.do(job.prepare_run()), "InvalidRows", sentence)
    job.columns = Columns(prompt="prompt", completion="completion")
    refused(job.do(job.prepare_run()), "InvalidRows", 'no column "completion", which columns.completion names')


def test_a_cell_that_is_not_text_costs_its_row_alone(job: Job) -> None:
    job.expect = DatasetExpectations(max_invalid_rows=2)
    counts = prepared(job, as_csv(prompt_rows(24)) + b"caf\xe9,On\r\na,b,c\r\n").dataset.counts
    assert (counts.read, counts.invalid) == (26, 2)
    rejected = [json.loads(line) for line in (job.workspace / "data" / "rejected.jsonl").read_text().splitlines()]
    assert [(r["line"], r["message"]) for r in rejected] == [
        (26, 'not UTF-8 text (column "prompt")'),
        (27, "3 cells, but the header names 2 columns"),
    ]


def test_a_parquet_cell_that_is_no_text_or_has_50_megabytes_costs_its_row_alone(job: Job) -> None:
    cells = [*(r["prompt"].encode() for r in ROWS), b"caf\xe9", b"a" * 50_000_000]
    # The bytes are called text as they are, which no check of Arrow's forbids.
    buffers = pyarrow.array(cells, pyarrow.binary()).buffers()
    text = pyarrow.Array.from_buffers(pyarrow.string(), len(cells), buffers)
    table = pyarrow.table({"prompt": text, "completion": [*(r["completion"] for r in ROWS), "On", "On"]})
    packed = io.BytesIO()
    pyarrow.parquet.write_table(table, packed)
    job.expect = DatasetExpectations(max_invalid_rows=2)
    counts = prepared(job, packed.getvalue()).dataset.counts
    assert (counts.read, counts.invalid) == (len(ROWS) + 2, 2)
    rejected = [json.loads(line) for line in (job.workspace / "data" / "rejected.jsonl").read_text().splitlines()]
    assert [(r["row"], r["message"]) for r in rejected] == [
        (len(ROWS) + 1, "not UTF-8 text"),
        (len(ROWS) + 2, "longer than 16777216 bytes"),
    ]


def test_a_parquet_bomb_ends_at_the_limit(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """One text of a megabyte, which 300 rows refer to."""
    repeated = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 300, pyarrow.int32()), ["x" * 1_000_000])
    packed, table = io.BytesIO(), pyarrow.table({"prompt": repeated, "completion": ["y"] * 300})
    pyarrow.parquet.write_table(table, packed, store_schema=False)
    assert len(packed.getvalue()) < 100_000
    monkeypatch.setattr("anneal_trainer.prepare.containers.MAX_BYTES", 50_000_000)
    job.content = packed.getvalue()
    refused(job.do(job.prepare_run()), "SourceTooLarge", "is larger than 50000000 bytes when it is unpacked")


@pytest.mark.parametrize("bomb", ["[" * 100_000, '[{"role": "user", "content": "a", "b": ' + "[" * 100_000])
def test_a_nested_bomb_in_a_cell_costs_its_row_alone(job: Job, bomb: str) -> None:
    chats = [json.dumps(turns) for turns in chats_of(ROWS)]
    job.expect, job.columns = DatasetExpectations(max_invalid_rows=1), Columns(messages="chat")
    assert prepared(job, as_csv([{"chat": chat, "n": "1"} for chat in [*chats, bomb]])).dataset.counts.invalid == 1


def test_a_row_of_50_megabytes_costs_itself_alone_in_plain_and_packed_files(job: Job) -> None:
    long = b'{"prompt": "' + b"a" * 50_000_000 + b'"}\n'
    job.expect = DatasetExpectations(max_invalid_rows=1)
    for content in (long + json_lines(ROWS), gzip.compress(long + json_lines(ROWS), 1)):
        counts = prepared(job, content).dataset.counts
        assert (counts.read, counts.invalid) == (26, 1)


@pytest.mark.parametrize("bomb", ["[" * 100_000, '{"a":' * 100_000], ids=["lists", "objects"])
def test_a_nested_bomb_costs_its_row_alone(job: Job, bomb: str) -> None:
    job.rows = [*ROWS, bomb]
    refused(job.do(job.prepare_run()), "InvalidRows", "broken JSON")
    job.expect = DatasetExpectations(max_invalid_rows=1)
    assert job.prepared().dataset.counts.invalid == 1


def test_a_gzip_bomb_ends_at_the_limit(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anneal_trainer.prepare.containers.MAX_BYTES", 1_000_000)
    job.content = gzip.compress(b" " * 2_000_000)
    refused(job.do(job.prepare_run()), "SourceTooLarge", "is larger than 1000000 bytes when it is unpacked")


def test_arrays_are_read_in_pieces_whatever_the_pieces(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = prepared(job, json_lines(ROWS)).dataset.digest
    content = json.dumps(ROWS).encode()
    for size in (1, 7, 64):
        monkeypatch.setattr("anneal_trainer.prepare.containers._LOOKED_AT", size)
        assert prepared(job, content).dataset.digest == expected


def test_the_same_rows_in_another_order_are_the_same_data(job: Job) -> None:
    expected = prepared(job, json_lines(ROWS)).dataset
    shuffled = random.Random(1).sample(ROWS, len(ROWS))
    found = prepared(job, json_lines(shuffled)).dataset
    assert (found.digest, found.test_digest) == (expected.digest, expected.test_digest)
