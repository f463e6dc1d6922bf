"""The NetworkPolicies name pods, ports and labels that there are: a selector that matches nothing protects nothing."""

from __future__ import annotations

from typing import Any

import yaml
from tests.conftest import REPOSITORY
from tests.unit.kinds.finetunejob.cases import PREPARED, STARTED, TRAINED, at
from tests.unit.kinds.scenes import NOW

from anneal.kinds.finetunejob.plan import plan
from anneal.settings import Settings
from anneal_trainer.sources.leash import is_node_address

Json = dict[str, Any]


def policies() -> dict[str, Json]:
    text = (REPOSITORY / "manifests" / "policies" / "networkpolicy.yaml").read_text()
    return {p["metadata"]["name"]: p["spec"] for p in yaml.safe_load_all(text)}


def labels_of(status: Json) -> Json:
    (job,) = (o for o in plan(at(status), NOW).apply if o["kind"] == "Job")
    labels: Json = job["spec"]["template"]["metadata"]["labels"]
    return labels


def test_each_policy_selects_the_pods_of_its_step_and_no_others() -> None:
    pods = {"anneal-prepare": labels_of(STARTED), "anneal-fit": labels_of(PREPARED), "": labels_of(TRAINED)}
    for name, policy in policies().items():
        wanted = policy["podSelector"]["matchLabels"].items()
        assert [n for n, labels in pods.items() if wanted <= labels.items()] == [name]


def test_training_reaches_the_operator_by_the_labels_and_the_port_that_it_has() -> None:
    base = REPOSITORY / "manifests" / "base"
    common = yaml.safe_load((base / "kustomization.yaml").read_text())["labels"][0]["pairs"]
    documents = list(yaml.safe_load_all((base / "deployment.yaml").read_text()))
    (deployment,) = (d for d in documents if d["kind"] == "Deployment")
    operator = {**common, **deployment["spec"]["template"]["metadata"]["labels"]}
    (rule,) = (r for r in policies()["anneal-fit"]["egress"] if r.get("ports", [{}])[0].get("port") == 8443)
    assert rule["to"][0]["podSelector"]["matchLabels"].items() <= operator.items()
    assert rule["ports"] == [{"protocol": "TCP", "port": Settings.model_fields["reports_port"].default}]


def test_what_fetching_is_cut_off_from_is_what_it_refuses_itself() -> None:
    (rule,) = policies()["anneal-prepare"]["egress"]
    excepted = [cidr.partition("/")[0] for to in rule["to"] for cidr in to["ipBlock"]["except"]]
    assert all(is_node_address(address) for address in excepted)
    assert "169.254.0.0" in excepted
