"""A key that is missing or no key is told before anything is loaded or asked, and the key itself never is."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.evaluator.hosted import hosted_run

from anneal_evaluator.errors import EvaluationError
from anneal_evaluator.keys import check_keys

SECRET = {"name": "openai", "key": "api-key"}


def run_with(directory: Path, content: bytes | None) -> None:
    run = hosted_run("http://127.0.0.1:1", secretRef=SECRET).model_copy(update={"keys": str(directory)})
    if content is not None:
        (directory / "gpt").mkdir()
        (directory / "gpt" / "key").write_bytes(content)
    check_keys(run, patience_seconds=0)


def test_a_good_key_with_the_usual_newline(tmp_path: Path) -> None:
    run_with(tmp_path, b"sk-good\n")


def test_no_secret_needs_no_key() -> None:
    check_keys(hosted_run("http://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "key 'api-key' of Secret 'openai' in this namespace, does not exist. Create it: kubectl create secret"),
        (b"\n", "cannot be used: it is empty"),
        (b"sk-a\nsk-b", "not one line"),
        ("schlüssel".encode(), "printable ASCII"),
        (b"\xff\xfe", "cannot be used"),
    ],
)
def test_what_is_no_key_is_told_with_where_it_should_be(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    with pytest.raises(EvaluationError, match=sentence) as caught:
        run_with(tmp_path, content)
    assert (caught.value.reason, caught.value.retryable) == ("KeyMissing", True)
    assert "sk-" not in str(caught.value)
