"""The real KubeflowCallback of transformers as a client, in a real Trainer: it reports with nothing but environment."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from tests.unit.reports.conftest import Endpoint
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import KubeflowCallback

from anneal.api.runs import ProgressReport
from anneal.kinds.contract import Key
from anneal.reports.kubeflow import UpdateStatus, to_report
from anneal.reports.server import KUBEFLOW_PATH


@pytest.fixture
def callback(endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KubeflowCallback:
    token_file = tmp_path / "token"
    token_file.write_text(endpoint.token("good"))
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", endpoint.url.replace("/v1/progress", KUBEFLOW_PATH))
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_TOKEN", str(token_file))
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_CA_CERT", str(endpoint.ca_file))
    return KubeflowCallback()


async def test_a_training_is_followed_from_its_begin_to_its_end(
    endpoint: Endpoint, callback: KubeflowCallback, tmp_path: Path
) -> None:
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True)
    state, control = TrainerState(max_steps=200, is_world_process_zero=True), TrainerControl()
    seen: list[ProgressReport | None] = []

    async def do(method: str, **more: object) -> None:
        await asyncio.to_thread(getattr(callback, method), arguments, state, control, **more)
        seen.append(endpoint.store.get(endpoint.uid))

    await do("on_train_begin")
    callback._start_time = time.time() - 100
    callback._last_update_time = 0.0  # its own limit of one report in 5 s is not what is tested here
    state.global_step, state.epoch = 50, 0.5
    callback.on_log(arguments, state, control, logs={"loss": 1.23456, "learning_rate": 1e-4})
    await do("on_step_end")
    callback.on_log(arguments, state, control, logs={"train_loss": 1.1, "train_runtime": 100.0})
    await do("on_train_end")

    begin, middle, end = seen
    assert begin == ProgressReport(percent=0, step=0, total_steps=200)
    assert middle is not None
    assert (middle.percent, middle.step, middle.total_steps, middle.loss) == (25, 50, 200, "1.2346")
    assert middle.eta_seconds == pytest.approx(300, abs=5)
    assert end is not None
    assert (end.percent, end.eta_seconds, end.step, end.total_steps) == (100, 0, 50, 200)
    assert set(endpoint.woken) == {Key("FineTuneJob", "team", "intents-v1")}


async def test_the_callback_is_refused_with_a_token_for_another_audience(
    endpoint: Endpoint, callback: KubeflowCallback
) -> None:
    endpoint.token("good", audience="other")
    assert await asyncio.to_thread(callback._update_status, 10, force=True) is False
    assert len(endpoint.store) == 0


def test_a_greeting_without_status_says_nothing() -> None:
    assert to_report(UpdateStatus(), None) is None


def test_metrics_may_be_anything() -> None:
    update = UpdateStatus.model_validate(
        {
            "trainerStatus": {
                "progressPercentage": 7,
                "lastUpdatedTime": "2026-01-01T00:00:00+00:00",
                "metrics": [
                    {"name": "loss", "value": "nan"},
                    {"name": "current_step", "value": "many"},
                    {"name": "total_steps", "value": "1e400"},
                    {"name": "train_tokens_per_second", "value": "812.7"},
                ],
            }
        }
    )
    previous = ProgressReport(percent=5, step=5, total_steps=100, loss="0.9")
    assert to_report(update, previous) == ProgressReport(
        percent=7, step=5, total_steps=100, loss="0.9", tokens_per_second=813
    )
