"""The operator's configuration, and the sentence that a wrong one ends in."""

from __future__ import annotations

from pathlib import Path

import pytest

from anneal.settings import SettingsError, load

IMAGES = {
    "ANNEAL_TRAINER_IMAGE": "t",
    "ANNEAL_EVALUATOR_IMAGE": "e",
    "ANNEAL_TRITON_IMAGE": "s",
    "ANNEAL_VLLM_IMAGE": "v",
}


def test_the_environment_alone_is_enough() -> None:
    settings = load({**IMAGES, "ANNEAL_NAMESPACES": "team-a, team-b", "POD_NAME": "p", "POD_IP": "10.0.0.1"})
    assert settings.namespaces == ("team-a", "team-b")
    assert (settings.pod_name, settings.pod_ip, settings.pod_namespace) == ("p", "10.0.0.1", "anneal-system")


def test_outside_a_pod_each_process_has_a_name_of_its_own() -> None:
    assert load(IMAGES).pod_name
    assert load(IMAGES).pod_ip is None


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "operator.yaml"
    file.write_text("workers: 3\nresync_seconds: 60\nnamespaces: [team]\n")
    settings = load({**IMAGES, "ANNEAL_CONFIG": str(file), "ANNEAL_WORKERS": "5"})
    assert (settings.workers, settings.resync_seconds, settings.namespaces) == (5, 60, ("team",))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ANNEAL_TRAINER_IMAGE": ""}, "ANNEAL_TRAINER_IMAGE is not set"),
        ({"ANNEAL_WORKERS": "many"}, "ANNEAL_WORKERS is 'many'"),
        ({"ANNEAL_WORKERS": "0"}, "greater than or equal to 1"),
        ({"ANNEAL_IMAGE_PULL_POLICY": "Sometimes"}, "'Always', 'IfNotPresent' or 'Never'"),
        ({"ANNEAL_CONFIG": "/does/not/exist"}, "cannot be read"),
    ],
)
def test_a_wrong_setting_is_named(change: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        load({**IMAGES, **change})


@pytest.mark.parametrize(
    ("content", "sentence"), [("- a", "not a mapping"), ("wrokers: 1", "WROKERS"), ("workers: [", "cannot be read")]
)
def test_a_wrong_file_is_named(tmp_path: Path, content: str, sentence: str) -> None:
    file = tmp_path / "operator.yaml"
    file.write_text(content)
    with pytest.raises(SettingsError, match=sentence):
        load({**IMAGES, "ANNEAL_CONFIG": str(file)})
