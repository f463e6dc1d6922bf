"""After everything else: the operator used every right that it has, and was refused none."""

from __future__ import annotations

import json

import pytest
from tests.conftest import KubernetesUnderTest
from tests.e2e.conftest import Anneal
from tests.e2e.test_a_chain import audited

pytestmark = pytest.mark.e2e


def granted(kubernetes: KubernetesUnderTest) -> set[tuple[str, str, str]]:
    """(group, resource, verb) of every rule of the operator."""
    rules = []
    for kind, name in (("clusterrole", "anneal-operator"), ("role", "anneal-leader")):
        rules += json.loads(kubernetes.kubectl("-n", "anneal-system", "get", kind, name, "-o", "json"))["rules"]
    return {(g, r, v) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}


def test_rights_are_exactly_what_is_used(anneal: Anneal, kubernetes: KubernetesUnderTest) -> None:
    if kubernetes.audit_log is None:
        pytest.skip("the audit log of a foreign cluster cannot be read")
    events = audited(kubernetes)
    refused = [e for e in events if e.get("responseStatus", {}).get("code") == 403]
    assert refused == []
    used = {
        (
            e["objectRef"].get("apiGroup", ""),
            "/".join(filter(None, (e["objectRef"]["resource"], e["objectRef"].get("subresource")))),
            e["verb"],
        )
        for e in events
    }
    # Server-side apply that creates is authorized as `create` but logged as `patch`.
    used |= {(group, resource, "create") for group, resource, verb in used if verb == "patch" and "/" not in resource}
    assert sorted(granted(kubernetes) - used) == [], "rights that are never used"
