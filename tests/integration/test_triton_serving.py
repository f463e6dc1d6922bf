"""Layout, server, probe and evaluator as the pods run them, on the real tritonserver and a real (tiny) model.

The candidate answers nonsense, but always the same nonsense: references are what the same model says in this process,
so a verdict of Passed also means that server, batching and protocol changed no letter of any answer.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.hosted_models import Asked, Said, hosted_models
from tests.support.tiny_model import TEMPLATE, write_artifact, write_base
from tests.support.triton_host import REPOSITORY, Server, TritonHost, prepare, started

from anneal.api.artifacts import digest_of_file
from anneal.api.runs import EvaluateRun, RunResult, parse_result
from anneal_evaluator.errors import EvaluationError
from anneal_evaluator.evaluate import evaluate
from anneal_serving.loading import Answer, ChatModel, load
from anneal_serving.questions import Question
from anneal_serving.repository import Settings, write_model

pytestmark = pytest.mark.integration

OBJECT = {"kind": "Evaluation", "namespace": "team", "name": "tiny", "uid": "1"}
MAX_TOKENS = 64
ROWS = 40


@dataclass(frozen=True)
class Models:
    """A base and an artifact on disk, and what the artifact answers."""

    directory: Path
    base_digest: str
    artifact_digest: str
    ended: list[tuple[str, str]]
    """(question, answer) that the candidate ends by itself."""
    endless: list[str]
    """Questions to which it talks until it is cut off."""

    def served(self, name: str) -> dict[str, Any]:
        base = {"uri": "pvc://hub/base", "path": str(self.directory / "base")}
        model: dict[str, Any] = {"name": name, "base": base, "baseDigest": self.base_digest}
        if name == "candidate":
            model["adapter"] = {"uri": "pvc://models/tiny", "path": str(self.directory / "artifact")}
            model["adapterDigest"] = self.artifact_digest
        return model


def write_models(directory: Path, questions: int = 90, **shape: Any) -> Models:
    """The artifact brings a template of its own, by which the base must be asked too; `shape` changes the base's."""
    base = write_base(directory / "base", **shape)
    artifact = write_artifact(directory / "artifact", directory / "base", template="«tuned»" + TEMPLATE)
    model = load(directory / "base", directory / "artifact", directory / "artifact", "cpu")
    texts = [f"question {number}: what about {number * number}?" for number in range(questions)]
    clear = clear_answers(model, texts)
    ended = [(text, answer.text) for text, answer in clear if answer.finish_reason == "stop"]
    endless = [text for text, answer in clear if answer.finish_reason == "length"]
    assert len(ended) >= ROWS
    return Models(directory, base, artifact, ended, endless)


def clear_answers(model: ChatModel, texts: list[str]) -> list[tuple[str, Answer]]:
    """(question, answer) where nothing hangs on the last bit.

    Matrix products of another shape round otherwise; where that decides between two tokens, no answer is the answer.
    """
    prompts = [model.render(Question([{"role": "user", "content": text}], MAX_TOKENS)) for text in texts]
    batches = [(prompts,), (prompts[: len(prompts) // 3], prompts[len(prompts) // 3 :])]
    one, other = (
        [answer for batch in split for answer in model.answer(batch, [MAX_TOKENS] * len(batch), lambda: None)]
        for split in batches
    )
    return [(text, answer) for text, answer, again in zip(texts, one, other, strict=True) if answer == again]


@pytest.fixture(scope="module")
def host() -> TritonHost:
    return prepare()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return write_models(tmp_path_factory.mktemp("models"))


@dataclass(frozen=True)
class Pod:
    """One serving pod: its files, its environment and its commands."""

    host: TritonHost
    directory: Path
    names: list[str]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "ANNEAL_RUN_FILE": str(self.directory / "run.json"),
            "ANNEAL_TERMINATION_FILE": str(self.directory / "termination"),
            "TMPDIR": str(self.directory),
        }

    @property
    def repository(self) -> Path:
        return self.directory / "repository"

    def result(self) -> RunResult:
        return parse_result((self.directory / "termination").read_text())

    def run(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.host.root / "env/bin/python"), "-m", "anneal_serving", command],
            env=self.host.environment(**self.environment, **environment),
            capture_output=True,
            text=True,
            timeout=120,
        )

    def serve(self) -> Any:
        return started(self.host, self.repository, self.directory / "server.log", **self.environment)


def new_pod(host: TritonHost, models: Models, directory: Path, *names: str) -> Pod:
    pod = Pod(host, directory, list(names))
    document = {
        "role": "serve",
        "object": OBJECT,
        "repository": str(pod.repository),
        "models": [models.served(name) for name in names],
    }
    (directory / "run.json").write_text(json.dumps(document))
    return pod


@pytest.fixture(scope="module")
def serving(host: TritonHost, models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pod, Server]]:
    """Candidate and base, laid out, served and never harmed."""
    pod = new_pod(host, models, tmp_path_factory.mktemp("pod"), "candidate", "base")
    laid_out = pod.run("layout")
    assert laid_out.returncode == 0, laid_out.stderr
    with pod.serve() as server:
        assert server.is_ready(), server.log.read_text()[-4000:]
        yield pod, server


def generate(server: Server, model: str, **question: object) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(
        f"http://{server.address}/v2/models/{model}/generate", data=json.dumps(question).encode()
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


class TestServing:
    def test_the_probe_is_satisfied_with_models_that_answer(self, serving: tuple[Pod, Server]) -> None:
        pod, server = serving
        probed = pod.run("probe", ANNEAL_SERVER=server.address)
        assert (probed.returncode, probed.stderr) == (0, "")

    def test_answers_are_those_of_the_model(self, serving: tuple[Pod, Server], models: Models) -> None:
        _, server = serving
        question, expected = models.ended[0]
        status, answer = generate(server, "candidate", text_input=question, max_tokens=MAX_TOKENS)
        assert (status, answer["text_output"], answer["finish_reason"]) == (200, expected, "stop")

    def test_text_and_messages_are_the_same_question(self, serving: tuple[Pod, Server], models: Models) -> None:
        _, server = serving
        question, expected = models.ended[1]
        messages = json.dumps([{"role": "user", "content": question}])
        _, answer = generate(server, "candidate", messages=messages, max_tokens=MAX_TOKENS)
        assert answer["text_output"] == expected

    def test_the_base_is_asked_by_the_template_of_the_candidate(self, serving: tuple[Pod, Server]) -> None:
        _, server = serving
        candidate = generate(server, "candidate", text_input="hello", max_tokens=1)[1]
        base = generate(server, "base", text_input="hello", max_tokens=1)[1]
        assert base["num_input_tokens"] == candidate["num_input_tokens"] > len("«tuned»")

    @pytest.mark.parametrize(
        ("question", "sentence"),
        [
            ({"text_input": "a", "messages": "[]"}, "give exactly one of text_input"),
            ({"text_input": " "}, "text_input is empty"),
            ({"messages": '{"role": "user"}'}, "messages must be a JSON list"),
            ({"messages": '[{"role": "robot", "content": "a"}]'}, "message 1 has the role 'robot'"),
            ({"text_input": "a", "max_tokens": 0}, "max_tokens is 0"),
            ({"text_input": "a" * 500, "max_tokens": 1}, "together more than the 128"),
            (
                {"messages": '[{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]', "max_tokens": 9},
                "the system message must come first",
            ),
        ],
    )
    def test_bad_input_is_refused_in_a_sentence(
        self, serving: tuple[Pod, Server], question: dict[str, object], sentence: str
    ) -> None:
        status, answer = generate(serving[1], "candidate", **question)
        assert status == 400
        assert answer["error"].startswith("bad request: ")
        assert sentence in answer["error"]

    def test_own_metrics_tell_refusals_from_answers(self, serving: tuple[Pod, Server]) -> None:
        _, server = serving
        generate(server, "base", text_input="")
        generate(server, "base", text_input="hello", max_tokens=1)
        with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=10) as response:
            lines = [line for line in response.read().decode().splitlines() if 'model="base"' in line]
        counts = dict(line.rsplit(" ", 1) for line in lines if line.startswith("anneal_serving_answers_total"))
        by_reason = {key.split('finish_reason="')[1].split('"')[0]: float(value) for key, value in counts.items()}
        assert by_reason["error"] >= 1
        assert by_reason["stop"] + by_reason["length"] >= 1


class TestSilentFailures:
    """Each of these looks healthy to Triton itself."""

    def test_a_dead_model_process_fails_the_probe_and_is_no_wrong_answer(
        self, host: TritonHost, models: Models, tmp_path: Path
    ) -> None:
        pod = new_pod(host, models, tmp_path, "candidate")
        assert pod.run("layout").returncode == 0
        with pod.serve() as server:
            assert pod.run("probe", ANNEAL_SERVER=server.address).returncode == 0
            (stub,) = server.stubs()
            os.kill(stub, signal.SIGKILL)
            assert server.is_ready(), "Triton notices by itself; then the probe need not infer"
            probed = pod.run("probe", ANNEAL_SERVER=server.address)
            assert probed.returncode == 1
            assert "model candidate does not answer: HTTP" in probed.stderr

            run = evaluation(models, tmp_path / "report", server, models.ended[:3], baselines=[], gates=GATES[:1])
            with pytest.raises(EvaluationError) as caught:
                evaluate(run, patience_seconds=0.1)
            assert (caught.value.reason, caught.value.retryable) == ("ServerUnreachable", True)

    def test_an_empty_repository_fails_the_probe(self, host: TritonHost, models: Models, tmp_path: Path) -> None:
        pod = new_pod(host, models, tmp_path, "candidate")
        pod.repository.mkdir()
        with pod.serve() as server:
            assert server.is_ready(), "Triton refuses by itself; then the probe need not infer"
            probed = pod.run("probe", ANNEAL_SERVER=server.address)
        assert probed.returncode == 1
        assert "model candidate does not answer" in probed.stderr

    def test_a_server_that_is_not_there_fails_the_probe(self, host: TritonHost, models: Models, tmp_path: Path) -> None:
        probed = new_pod(host, models, tmp_path, "candidate").run("probe", ANNEAL_SERVER="localhost:1")
        assert probed.returncode == 1
        assert "localhost:1 is not reachable" in probed.stderr

    def test_a_load_failure_is_told_to_the_kubelet(self, host: TritonHost, models: Models, tmp_path: Path) -> None:
        pod = new_pod(host, models, tmp_path, "candidate")
        pickled = tmp_path / "pickled"
        pickled.mkdir()
        (pickled / "pytorch_model.bin").write_bytes(b"")
        settings = Settings(base=str(pickled), adapter="", tokenizer=str(models.directory / "base"), threads=1)
        write_model(pod.repository, "candidate", settings, max_batch_size=8, gpu=None)
        with pod.serve() as server:
            assert server.process.wait(60) != 0
        result = pod.result()
        assert result.reason == "ModelLoadFailed"
        assert "pickled weights are never loaded" in result.message


class TestLayout:
    def test_a_changed_byte_of_the_adapter_ends_the_pod(self, host: TritonHost, tmp_path: Path) -> None:
        (tmp_path / "models").mkdir()
        models = Models(
            tmp_path / "models",
            write_base(tmp_path / "models/base"),
            write_artifact(tmp_path / "models/artifact", tmp_path / "models/base"),
            [],
            [],
        )
        weights = models.directory / "artifact/adapter_model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        pod = new_pod(host, models, tmp_path, "candidate")
        assert pod.run("layout").returncode == 42
        result = pod.result()
        assert (result.outcome, result.reason, result.retryable) == ("Failed", "DigestMismatch", False)
        assert "adapter_model.safetensors" in result.message
        assert not pod.repository.exists()


GATES = [
    {"metric": "accuracy", "absolute": {"minLowerBound": "0.85"}},
    {"metric": "accuracy", "superiority": {"over": "untuned", "minEffect": "0.20"}},
]


def evaluation(
    models: Models, report: Path, server: Server, pairs: list[tuple[str, str]], **changes: object
) -> EvaluateRun:
    """The run document of an evaluation over (question, reference) pairs; `changes` replace members of it."""
    held_out = report.parent / "held-out.jsonl"
    rows = [
        {"id": f"row-{i}", "messages": [{"role": "user", "content": question}], "reference": reference}
        for i, (question, reference) in enumerate(pairs)
    ]
    held_out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    document: dict[str, object] = {
        "role": "evaluate",
        "object": OBJECT,
        "serverUrl": server.address,
        "candidateDigest": models.artifact_digest,
        "baseDigest": models.base_digest,
        "baselines": [{"name": "untuned", "fromCandidate": {}}],
        "heldOut": {"uri": "pvc://models/tiny/evaluation/held-out.jsonl", "path": str(held_out)},
        "heldOutDigest": digest_of_file(held_out),
        "generation": {"maxTokens": MAX_TOKENS},
        "metrics": [{"name": "accuracy", "exactMatch": {}}],
        "gates": GATES,
        "statistics": {},
        "policy": {},
        "report": {"uri": "pvc://models/tiny/evaluation/report", "path": str(report)},
        **changes,
    }
    document["models"] = ["candidate", "base"] if document["baselines"] else ["candidate"]
    return EvaluateRun.model_validate(document)


class Evaluator:
    """The evaluator as its container runs it."""

    def __init__(self, run: EvaluateRun, directory: Path, *arguments: str) -> None:
        self.termination = directory / "termination"
        (directory / "evaluate.json").write_text(json.dumps(run.to_json()))
        roots = [str(REPOSITORY / "operator"), str(REPOSITORY / "images/evaluator"), str(REPOSITORY / "images")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "anneal_evaluator", *arguments],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(roots),
                "ANNEAL_RUN_FILE": str(directory / "evaluate.json"),
                "ANNEAL_TERMINATION_FILE": str(self.termination),
            },
        )

    def ended(self) -> tuple[int, RunResult]:
        code = self.process.wait(180)
        return code, parse_result(self.termination.read_text())


class TestEvaluation:
    def test_a_better_candidate_passes(self, serving: tuple[Pod, Server], models: Models, tmp_path: Path) -> None:
        run = evaluation(models, tmp_path / "report", serving[1], models.ended[:ROWS])
        code, result = Evaluator(run, tmp_path).ended()
        assert (code, result.outcome, result.reason) == (0, "Succeeded", "Judged"), result.message
        assert result.evaluate is not None
        assert [row[:3] for row in result.evaluate.models] == [(ROWS, 0, 0), (ROWS, 0, 0)]
        assert result.evaluate.results[0][2:4] == (ROWS, "1.0000")
        assert result.evaluate.results[1][2:4] == (ROWS, "0.0000")
        assert [gate[0] for gate in result.evaluate.gates] == ["Passed", "Passed"]
        assert result.evaluate.report_digest == digest_of_file(tmp_path / "report/report.json")

    def test_a_program_of_the_users_scores_between_asking_and_judging(
        self, serving: tuple[Pod, Server], models: Models, tmp_path: Path
    ) -> None:
        scores = tmp_path / "plugins/scores/mine/scores.jsonl"
        scores.parent.mkdir(parents=True)
        run = evaluation(
            models,
            tmp_path / "report",
            serving[1],
            models.ended[:ROWS],
            metrics=[
                {"name": "accuracy", "exactMatch": {}},
                {"name": "mine", "plugin": {"image": "mine", "values": "Binary"}},
            ],
            gates=[{"metric": "mine", "superiority": {"over": "untuned"}}],
            plugins=str(tmp_path / "plugins"),
        )
        code, result = Evaluator(run, tmp_path, "respond").ended()
        assert (code, result.reason, result.evaluate) == (0, "Answered", None), result.message
        items = [json.loads(line) for line in (tmp_path / "plugins/answers/answers.jsonl").read_text().splitlines()]
        right = [{"id": i["id"], "score": int(i["answer"].strip() == i["reference"].strip())} for i in items]
        scores.write_text("".join(json.dumps(line) + "\n" for line in right[1:]))
        code, result = Evaluator(run, tmp_path).ended()
        assert (code, result.reason) == (42, "PluginScoresInvalid"), result.message
        scores.write_text("".join(json.dumps(line) + "\n" for line in right))
        code, result = Evaluator(run, tmp_path).ended()
        assert (code, result.reason) == (0, "Judged"), result.message
        assert result.evaluate is not None
        built_in, mine = ([row[1:] for row in result.evaluate.results if row[0] == metric] for metric in (0, 1))
        assert mine == built_in
        assert [gate[0] for gate in result.evaluate.gates] == ["Passed"]

    def test_a_hosted_model_is_asked_beside_the_server_and_its_key_is_in_no_file(
        self, serving: tuple[Pod, Server], models: Models, tmp_path: Path
    ) -> None:
        for name in ("gpt", "_judge"):
            key = tmp_path / "keys" / name / "key"
            key.parent.mkdir(parents=True)
            key.write_text("vncy_secret\n")

        def script(asked: Asked) -> Said:
            if "system" not in [m["role"] for m in asked.body["messages"]]:
                return Said("no", model="gpt-5-2025-08-07", usage=(100, 20))
            given = json.loads(asked.text)
            verdict = "correct" if given["answer"] == given["reference"] else "incorrect"
            return Said(json.dumps({"verdict": verdict}), usage=(10, 1))

        with hosted_models(script) as provider:
            hosted = {
                "openAI": {"baseUrl": provider.url + "/v1", "model": "gpt-5"},
                "secretRef": {"name": "openai", "key": "api-key"},
                "price": {"inputPerMillion": "1.25", "outputPerMillion": "10"},
            }
            run = evaluation(
                models,
                tmp_path / "report",
                serving[1],
                models.ended[:ROWS],
                baselines=[{"name": "gpt", "hosted": hosted}],
                metrics=[{"name": "accuracy", "exactMatch": {}}, {"name": "right", "judged": {}}],
                judge={**hosted, "openAI": {**hosted["openAI"], "model": "mistral-large"}},
                gates=[{"metric": "right", "superiority": {"over": "gpt"}}],
                budget={"cost": "0.2"},
                keys=str(tmp_path / "keys"),
            )
            run = run.model_copy(update={"models": ["candidate", "gpt"]})
            code, result = Evaluator(run, tmp_path).ended()
        assert (code, result.outcome) == (0, "Succeeded"), result.message
        assert result.evaluate is not None
        assert result.evaluate.models[1] == (ROWS, 0, 0, 0, 0, 100 * ROWS, 20 * ROWS, "0.013000", "-2025-08-07")
        assert result.evaluate.judge == (2 * ROWS, 0, "0.001800", "")
        assert [gate[0] for gate in result.evaluate.gates] == ["Passed"]
        exact, judged = ([r[3] for r in result.evaluate.results if r[0] == metric] for metric in (0, 1))
        assert exact == judged == ["1.0000", "0.0000"]
        assert {asked.headers["Authorization"] for asked in provider.asked} == {"Bearer vncy_secret"}
        written = [tmp_path / "termination", *(p for p in (tmp_path / "report").rglob("*") if p.is_file())]
        assert len(written) >= 6
        assert not any(b"vncy_secret" in path.read_bytes() for path in written)

    def test_a_question_too_large_for_the_server_is_an_error_of_its_row(
        self, serving: tuple[Pod, Server], models: Models, tmp_path: Path
    ) -> None:
        pairs = [*models.ended[:ROWS], ("x" * 5_000_000, "y"), ("x" * 500, "y")]
        run = evaluation(models, tmp_path / "report", serving[1], pairs, policy={"maxErrorRate": "0.05"})
        result = evaluate(run)
        assert result.evaluate is not None
        assert [row[:3] for row in result.evaluate.models] == [(ROWS + 2, 2, 0), (ROWS + 2, 2, 0)]
        assert result.evaluate.results[0][2:4] == (ROWS, "1.0000")
        assert serving[1].is_ready()

    def test_cut_off_answers_are_errors_and_no_verdict(
        self, serving: tuple[Pod, Server], models: Models, tmp_path: Path
    ) -> None:
        pairs = [*models.ended[:10], *((question, "y") for question in models.endless[:2])]
        code, result = Evaluator(evaluation(models, tmp_path / "report", serving[1], pairs), tmp_path).ended()
        assert (code, result.reason, result.retryable) == (42, "TooManyErrors", False)
        assert "candidate has no usable answer to 2 of 12 rows" in result.message
        assert "generation.maxTokens" in result.message

    def test_after_sigterm_only_missing_answers_are_asked_for(
        self, serving: tuple[Pod, Server], models: Models, tmp_path: Path
    ) -> None:
        report = tmp_path / "report"
        run = evaluation(
            models, report, serving[1], models.ended[:ROWS], generation={"concurrency": 1, "maxTokens": 64}
        )
        stored = report / "responses-candidate.jsonl"
        first = Evaluator(run, tmp_path)
        while not stored.exists() or stored.read_bytes().count(b"\n") < 3:
            assert first.process.poll() is None
            time.sleep(0.02)
        first.process.send_signal(signal.SIGTERM)
        code, result = first.ended()
        assert (code, result.outcome) == (75, "Preempted")
        kept = stored.read_bytes().splitlines(keepends=True)
        assert 3 <= len(kept) < ROWS
        stored.write_bytes(b"".join(kept) + b'{"key": "torn')

        code, result = Evaluator(run, tmp_path).ended()
        assert (code, result.outcome) == (0, "Succeeded"), result.message
        final = stored.read_bytes().splitlines(keepends=True)
        assert len(final) == ROWS
        assert final[: len(kept)] == kept, "seconds differ if a question was asked twice"
