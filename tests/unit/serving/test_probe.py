"""What the probe says where no server helps: the real one is asked in the integration tests."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anneal_serving import probe


@pytest.fixture
def silent_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Takes connections and says nothing, as a server does whose model is busy with a batch."""
    monkeypatch.setattr(probe, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_busy_model_that_decodes_is_ready(silent_server: str) -> None:
    probe.heartbeat_file("intents").touch()
    assert probe.why_not_ready(silent_server, probe.TRITON, ["intents"]) is None


def test_a_silent_model_without_heartbeat_is_not_ready(silent_server: str) -> None:
    reason = probe.why_not_ready(silent_server, probe.TRITON, ["intents"])
    assert reason is not None
    assert "nothing came back in 0.2 s" in reason


def test_an_old_heartbeat_is_no_life(silent_server: str) -> None:
    beat = probe.heartbeat_file("intents")
    beat.touch()
    old = time.time() - probe.HEARTBEAT_SECONDS - 1
    os.utime(beat, (old, old))
    assert probe.why_not_ready(silent_server, probe.TRITON, ["intents"]) is not None


def test_a_run_without_models_is_not_ready() -> None:
    assert (
        probe.why_not_ready("127.0.0.1:1", probe.TRITON, [])
        == "the run names no model, so there is nothing that could answer"
    )


@pytest.mark.parametrize("document", [None, "{", "[]", '{"models": [{}]}'])
def test_a_bad_run_document_is_one_line(
    document: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run.json"
    if document is not None:
        run.write_text(document)
    monkeypatch.setenv("ANNEAL_RUN_FILE", str(run))
    assert probe.main() == 1
    assert "cannot be read" in (line := capsys.readouterr().err)
    assert line.count("\n") == 1


def test_the_program_loads_nothing_but_the_standard_library(tmp_path: Path) -> None:
    """It runs every few seconds: what it imports is CPU taken from the models."""
    run = tmp_path / "run.json"
    run.write_text(json.dumps({"models": [{"name": "intents"}]}))
    script = (
        "import sys; from anneal_serving.__main__ import main; code = main(['probe']);"
        " print(code, sorted({'pydantic', 'numpy', 'torch', 'anneal'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "ANNEAL_RUN_FILE": str(run)}
        | {"ANNEAL_SERVER": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "1 []"
