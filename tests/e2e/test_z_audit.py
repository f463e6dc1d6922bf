"""What the audit log says of all stories: rights are exactly what was used, and what had converged was left alone."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.conftest import KubernetesUnderTest
from tests.e2e.conftest import Anneal

from anneal.api.conditions import find

pytestmark = pytest.mark.e2e
OPERATOR = "system:serviceaccount:anneal-system:anneal-operator"
WRITES = {"create", "update", "patch", "delete", "deletecollection"}
CHAIN = "intents"
#: The pass that follows the last change may still write.
SETTLES = timedelta(seconds=10)


@pytest.fixture(scope="module")
def audited(kubernetes: KubernetesUnderTest) -> list[dict[str, Any]]:
    """The operator's requests in the audit log, oldest first."""
    if kubernetes.audit_log is None:
        pytest.skip("the audit log of a foreign cluster cannot be read")
    lines = kubernetes.audit_log.read_bytes().splitlines()
    events = [json.loads(text) for text in lines if OPERATOR.encode() in text]
    return [e for e in events if e["user"]["username"] == OPERATOR and e.get("objectRef")]


def test_a_converged_chain_is_never_written_to_again(anneal: Anneal, audited: list[dict[str, Any]]) -> None:
    """For the minutes of all other stories, leaders killed and started anew among them: not one write."""
    served = find(anneal.get("ModelDeployment", CHAIN)["status"], "Ready")
    assert served is not None
    assert served["status"] == "True"
    since = datetime.fromisoformat(served["lastTransitionTime"]) + SETTLES
    after = [e for e in audited if datetime.fromisoformat(e["requestReceivedTimestamp"]) > since]
    assert datetime.fromisoformat(after[-1]["requestReceivedTimestamp"]) - since > timedelta(seconds=60)
    ours = [e for e in after if e["objectRef"].get("name", "").startswith(CHAIN)]
    assert [e for e in ours if e["verb"] in WRITES] == []


def granted(kubernetes: KubernetesUnderTest) -> set[tuple[str, str, str]]:
    """(group, resource, verb) of every rule of the operator."""
    rules = []
    for kind, name in (("clusterrole", "anneal-operator"), ("role", "anneal-leader")):
        rules += json.loads(kubernetes.kubectl("-n", "anneal-system", "get", kind, name, "-o", "json"))["rules"]
    return {(g, r, v) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}


def test_rights_are_exactly_what_is_used(
    anneal: Anneal, kubernetes: KubernetesUnderTest, audited: list[dict[str, Any]]
) -> None:
    refused = [e for e in audited if e.get("responseStatus", {}).get("code") == 403]
    assert refused == []
    used = {
        (
            e["objectRef"].get("apiGroup", ""),
            "/".join(filter(None, (e["objectRef"]["resource"], e["objectRef"].get("subresource")))),
            e["verb"],
        )
        for e in audited
    }
    # Server-side apply that creates is authorized as `create` but logged as `patch`.
    used |= {(group, resource, "create") for group, resource, verb in used if verb == "patch" and "/" not in resource}
    assert sorted(granted(kubernetes) - used) == [], "rights that are never used"
