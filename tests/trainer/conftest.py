"""A tiny base model and one thread: what is tested is exact, so it needs to be neither large nor fast."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.support.tiny_model import write_base
from tests.trainer.job import Job


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    patch.undo()


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a Llama of two layers. Not to be changed: copy it."""
    directory = tmp_path_factory.mktemp("hub") / "tiny"
    write_base(directory)
    return directory


@pytest.fixture
def job(base: Path, tmp_path: Path) -> Job:
    """A job on 24 rows that trains in a blink."""
    return Job(base, tmp_path)
