"""Layout, server and probe as the pods run them, on the real vLLM and a real (tiny) model.

One server for all, since a start takes half a minute or more. References are what transformers says in this process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.integration.test_triton_serving import (
    MAX_TOKENS,
    OBJECT,
    Models,
    clear_answers,
    write_models,
)
from tests.support.vllm_host import WIDE, Server, prepare, started

from anneal_serving.loading import load

pytestmark = pytest.mark.integration

ROWS = 40
#: Share of answers that are the same letter for letter: kernels of vLLM's own round otherwise than transformers'.
ALIKE = 0.8


@dataclass(frozen=True)
class Pod:
    """One serving pod: its files, its environment and its commands."""

    python: Path
    directory: Path

    @property
    def options(self) -> Path:
        return self.directory / "repository/vllm.yaml"

    def run(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        files = {
            "ANNEAL_RUN_FILE": str(self.directory / "run.json"),
            "ANNEAL_TERMINATION_FILE": str(self.directory / "termination"),
        }
        return subprocess.run(
            [str(self.python), "-m", "anneal_serving", command],
            env={**os.environ, **files, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )


def new_pod(python: Path, directory: Path, models: list[dict[str, Any]]) -> Pod:
    repository = directory / "repository"
    repository.mkdir()
    document = {
        "role": "serve",
        "object": OBJECT,
        "repository": str(repository),
        "vllm": {"cacheMemory": "64Mi"},
        "models": models,
    }
    (directory / "run.json").write_text(json.dumps(document))
    return Pod(python, directory)


@pytest.fixture(scope="module")
def python() -> Path:
    return prepare()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return write_models(tmp_path_factory.mktemp("models"), questions=300, **WIDE)


@dataclass(frozen=True)
class Expected:
    """What both models say to one question, each asked by the template of the candidate."""

    question: str
    tuned: str
    untuned: str


@pytest.fixture(scope="module")
def expected(models: Models) -> list[Expected]:
    """Where both end by themselves, with a whole letter: of half a letter, vLLM shows nothing."""
    base = load(models.directory / "base", None, models.directory / "artifact", "cpu")
    tuned = dict(models.ended)
    untuned = {q: a.text for q, a in clear_answers(base, list(tuned)) if a.finish_reason == "stop"}
    found = [Expected(q, tuned[q], untuned[q]) for q in untuned]
    whole = [e for e in found if not e.tuned.endswith("\ufffd") and not e.untuned.endswith("\ufffd")]
    assert len(whole) >= ROWS
    return whole[:ROWS]


@pytest.fixture(scope="module")
def serving(python: Path, models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pod, Server]]:
    """Candidate and base, laid out and served."""
    served = [models.served("candidate"), models.served("base")]
    pod = new_pod(python, tmp_path_factory.mktemp("pod"), served)
    laid_out = pod.run("layout")
    assert laid_out.returncode == 0, laid_out.stderr
    with started(python, pod.options, pod.directory / "server.log") as server:
        assert server.is_healthy(), server.log.read_text()[-4000:]
        yield pod, server


def ask(server: Server, model: str, question: str, max_tokens: int = MAX_TOKENS) -> tuple[int, dict[str, Any]]:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": max_tokens,
        "temperature": 0,
    }
    url = f"http://{server.address}/v1/chat/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def metric(server: Server, name: str) -> float:
    """Sum over all label sets."""
    with urllib.request.urlopen(f"http://{server.address}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{"))


def begun(server: Server) -> float:
    """Answers of which there is a first token."""
    return metric(server, "vllm:time_to_first_token_seconds_count")


def text(answer: tuple[int, dict[str, Any]]) -> str:
    status, said = answer
    assert status == 200, said
    return str(said["choices"][0]["message"]["content"])


class TestServing:
    def test_the_probe_is_satisfied_with_models_that_answer(self, serving: tuple[Pod, Server]) -> None:
        pod, server = serving
        probed = pod.run("probe", ANNEAL_SERVER=server.address)
        assert (probed.returncode, probed.stderr) == (0, "")

    def test_a_model_that_is_not_there_fails_the_probe(
        self, serving: tuple[Pod, Server], models: Models, tmp_path: Path
    ) -> None:
        other = new_pod(serving[0].python, tmp_path, [{**models.served("base"), "name": "nobody"}])
        probed = other.run("probe", ANNEAL_SERVER=serving[1].address)
        assert probed.returncode == 1
        assert "model nobody does not answer: HTTP 404" in probed.stderr

    def test_base_and_adapter_in_one_batch_each_answer_as_themselves(
        self, serving: tuple[Pod, Server], expected: list[Expected]
    ) -> None:
        """vLLM 0.32 on CPU mixes them up unless a slot is empty (docs/adr/0018-vllm.md)."""
        pairs = [(model, one.question) for one in expected for model in ("candidate", "base")]
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda pair: text(ask(serving[1], *pair)), pairs))
        wanted = [text for one in expected for text in (one.tuned, one.untuned)]
        assert sum(map(str.__eq__, answers, wanted)) >= ALIKE * len(wanted)
        assert not any(answer == one.tuned for answer, one in zip(answers[1::2], expected, strict=True))

    def test_the_base_is_asked_by_the_template_of_the_candidate(self, serving: tuple[Pod, Server]) -> None:
        lengths = {ask(serving[1], model, "hello", 1)[1]["usage"]["prompt_tokens"] for model in ("candidate", "base")}
        assert len(lengths) == 1
        assert lengths.pop() > len("«tuned»")

    def test_a_question_that_does_not_fit_is_refused(self, serving: tuple[Pod, Server]) -> None:
        status, said = ask(serving[1], "candidate", "a" * 500)
        assert status == 400
        assert "128" in said["error"]["message"]

    def test_its_metrics_count_requests(self, serving: tuple[Pod, Server]) -> None:
        ask(serving[1], "base", "hello", 1)
        assert metric(serving[1], "vllm:request_success_total") >= 1


class TestEnd:
    """The last requests of the server that all tests share."""

    def test_sigterm_cuts_no_answer(self, serving: tuple[Pod, Server], models: Models) -> None:
        """What is not yet read at the signal is refused; until then the pod's preStop waits for the endpoint to go."""
        server = serving[1]
        before = begun(server)
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(ask, server, "candidate", question) for question in models.endless[:8]]
            while begun(server) < before + len(asked):
                time.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            answers = [answer.result() for answer in asked]
        assert [status for status, _ in answers] == [200] * len(asked), answers
        assert {said["choices"][0]["finish_reason"] for _, said in answers} == {"length"}
        assert server.process.wait(60) == 0
