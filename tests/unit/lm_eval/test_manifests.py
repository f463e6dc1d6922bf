"""manifests/lm-eval: kinds and arguments are those that there are, and the three fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from anneal.api.evaluation import Evaluation
from anneal.api.finetunejob import FineTuneJob
from anneal_lm_eval.__main__ import options_of

FOLDER = Path(__file__).resolve().parents[3] / "manifests/lm-eval"


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return found


def test_what_is_written_is_held_out_and_scored_by_the_same_image_and_task() -> None:
    job = FineTuneJob.model_validate(read("finetunejob"))
    evaluation = Evaluation.model_validate(read("evaluation"))
    (container,) = read("rows")["spec"]["template"]["spec"]["containers"]
    rows = options_of(container["args"])
    source = job.spec.dataset.split.held_out_source
    assert source is not None
    claims = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in _pod()["volumes"] if v["name"] != "tmp"}
    mounts = {m["mountPath"]: claims[m["name"]] for m in container["volumeMounts"] if m["name"] != "tmp"}
    assert source.uri == f"pvc:/{rows.output}".replace("/hub/", f"/{mounts['/hub']}/")
    (plugin,) = [metric for metric in evaluation.spec.metrics if metric.plugin is not None]
    assert plugin.plugin is not None
    score = options_of(plugin.plugin.args)
    assert (score.command, plugin.plugin.image) == ("score", container["image"])
    assert plugin.only is not None
    assert rows.task == [score.task] == plugin.only.categories, "rows are of the category of their task"
    assert evaluation.spec.candidate.fine_tune_job_ref is not None
    assert evaluation.spec.candidate.fine_tune_job_ref.name == read("finetunejob")["metadata"]["name"]
    (gate,) = [gate for gate in evaluation.spec.gates if gate.metric == plugin.name]
    assert gate.non_inferiority is not None
    assert gate.non_inferiority.to in [baseline.name for baseline in evaluation.spec.baselines]


def test_the_job_passes_pod_security_restricted() -> None:
    pod = _pod()
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _pod() -> dict[str, Any]:
    found: dict[str, Any] = read("rows")["spec"]["template"]["spec"]
    return found
