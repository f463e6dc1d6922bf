"""How long preparing data takes and how much memory, at three sizes, and how near duplicates are found.

The program as it runs in its pod, in a process of its own. Seconds are CPU seconds of that process: on a shared machine
anything else measures the neighbours; wall-clock seconds are written beside them. Figures go to build/bench/data.json.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from tests.support.tiny_model import write_base
from tests.trainer.job import Job, environment

from anneal.api.dataset import DatasetSplit, Deduplication
from anneal.api.runs import SourceInput, parse_result
from anneal.api.training import Training
from anneal_trainer.prepare import similar
from anneal_trainer.prepare.words import Dialogues, runs

pytestmark = pytest.mark.performance

OUT = Path(__file__).resolve().parents[2] / "build" / "bench" / "data.json"
SEED = 0
VOCABULARY = [f"w{i}" for i in range(20_000)]
ZIPF = list(accumulate(1 / (rank + 1) for rank in range(len(VOCABULARY))))
COPIES = 0.05
#: (rows, most CPU seconds, most memory in GiB); None where the goal is to come through at all.
SIZES = ((5_000, 10, 2), (100_000, 60, 2), (1_000_000, None, 8))


#: The program as it is started in its pod, and last the most memory that it had, in KiB. What its parent counts would
#: not do: a child begins with all of the parent's memory, which here is that of torch.
PROGRAM = """
import re, sys
from pathlib import Path
from anneal_trainer.__main__ import main
code = main()
print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
sys.exit(code)
"""


def text(source: random.Random, words: int) -> list[str]:
    return source.choices(VOCABULARY, cum_weights=ZIPF, k=words)


def texts(count: int, words: int) -> Iterator[str]:
    """Texts of words as frequent as in language; one in twenty is an earlier one with up to a tenth changed."""
    source = random.Random(SEED)
    kept: list[list[str]] = []
    for number in range(count):
        if kept and number % round(1 / COPIES) == 0:
            copy = list(source.choice(kept))
            for _ in range(source.randint(0, words // 10)):
                copy[source.randrange(words)] = source.choice(VOCABULARY)
            yield " ".join(copy)
            continue
        own = text(source, words)
        if len(kept) < 5_000:
            kept.append(own)
        yield " ".join(own)


def report(name: str, figures: dict[str, Any]) -> None:
    OUT.parent.mkdir(parents=True, exist_ok=True)
    document = json.loads(OUT.read_text()) if OUT.exists() else {}
    document[name] = figures | {"seed": SEED, "cores": os.cpu_count(), "python": sys.version.split()[0]}
    OUT.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    print(f"  {name}: {figures}")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("hub") / "tiny"
    write_base(directory)
    config = json.loads((directory / "config.json").read_text()) | {"max_position_embeddings": 4096}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


@pytest.mark.parametrize(("rows", "most_seconds", "most_gib"), SIZES, ids=[str(rows) for rows, *_ in SIZES])
def test_prepare(base: Path, tmp_path: Path, rows: int, most_seconds: int | None, most_gib: int) -> None:
    """Rows of 40 words: 30 asked, 10 answered, and a byte-level tokenizer, so some 250 tokens each."""
    source = random.Random(SEED + 1)
    path = tmp_path / "data.jsonl"
    with path.open("w") as stream:
        for prompt in texts(rows, 30):
            stream.write(json.dumps({"prompt": prompt, "completion": " ".join(text(source, 10))}) + "\n")
    job = Job(
        base,
        tmp_path,
        split=DatasetSplit(held_out=150),
        training=Training(max_length=4096),
        deduplication=Deduplication(near="Drop"),
    )
    run = job.prepare_run().model_copy(update={"sources": [SourceInput(uri="pvc://hub/rows", path=str(path))]})
    termination = tmp_path / "end"
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment(job.document(run), termination),
        capture_output=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stdout.decode()[-2000:]
    prepared = parse_result(termination.read_text()).prepare
    assert prepared is not None
    seconds = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    gib = int(done.stdout.split()[-1]) / 1024**2
    figures = {"cpuSeconds": round(seconds, 1), "wallSeconds": round(time.monotonic() - started, 1)}
    counts = prepared.dataset.counts
    report(f"prepare.{rows}", {**figures, "peakGiB": round(gib, 2), "counts": counts.to_json()})
    assert counts.read == rows
    assert most_seconds is None or seconds <= most_seconds
    assert gib <= most_gib


def brute_force(has: sparse.csr_array, threshold: float) -> set[tuple[int, int]]:
    common = (has @ has.T).tocoo()
    sizes = np.diff(has.indptr)
    index = common.data / (sizes[common.row] + sizes[common.col] - common.data)
    wanted = (common.row < common.col) & (index >= threshold - 1e-9)
    return set(zip(common.row[wanted].tolist(), common.col[wanted].tolist(), strict=True))


@pytest.mark.parametrize("rows", [5_000, 20_000])
def test_near_duplicates(rows: int) -> None:
    """Texts of 160 words, compared by all their word triples with the product of the whole matrix with itself."""
    own = list(texts(rows, 160))
    started = time.process_time()
    words = Dialogues()
    for each in own:
        words.add(each, "")
    found_runs = runs(words.questions, 3)
    first, second = similar.pairs(found_runs, 0.8, lambda: None)
    seconds = time.process_time() - started
    expected = brute_force(found_runs.has, 0.8)
    found = set(zip(first.tolist(), second.tolist(), strict=True))
    recall = len(found & expected) / len(expected)
    report(
        f"near.{rows}",
        {"cpuSeconds": round(seconds, 2), "pairs": len(expected), "recall": recall, "wrong": len(found - expected)},
    )
    assert len(expected) > rows * COPIES / 4
    assert found == expected
    assert rows > 5_000 or seconds <= 1.5
