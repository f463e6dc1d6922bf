"""Whom an event wakes."""

from __future__ import annotations

from typing import Any

from anneal.kinds.contract import Key, Listing, Reference
from anneal.reconcile.interests import Interests

JOB, EVALUATION = Key("FineTuneJob", "team", "a"), Key("Evaluation", "team", "e")


def obj(kind: str, name: str, namespace: str = "team", **annotations: str) -> dict[str, Any]:
    named = {f"anneal.dev/{k}": v for k, v in annotations.items()}
    return {"kind": kind, "metadata": {"name": name, "namespace": namespace, "annotations": named}}


def interests() -> Interests:
    return Interests(["FineTuneJob", "Evaluation", "ModelDeployment"])


def test_an_object_of_ours_wakes_itself() -> None:
    assert interests().wakes(obj("FineTuneJob", "a")) == {JOB}


def test_a_child_wakes_its_owner_and_a_stranger_wakes_nobody() -> None:
    assert interests().wakes(obj("Pod", "p", owner="FineTuneJob/a")) == {JOB}
    assert interests().wakes(obj("Pod", "p", owner="Secret/a")) == set()
    assert interests().wakes(obj("Pod", "p")) == set()
    assert interests().wakes({"kind": "Pod", "metadata": {"name": "p", "namespace": "team"}}) == set()


def test_a_reference_wakes_who_looked_and_only_in_its_namespace() -> None:
    table = interests()
    table.add(EVALUATION, {Reference("FineTuneJob", "a")})
    assert table.wakes(obj("FineTuneJob", "a")) == {JOB, EVALUATION}
    assert EVALUATION not in table.wakes(obj("FineTuneJob", "a", namespace="other"))
    assert EVALUATION not in table.wakes(obj("FineTuneJob", "b"))


def test_a_listing_is_woken_whatever_labels_the_object_has_now() -> None:
    table = interests()
    table.add(EVALUATION, {Listing("FineTuneJob", (("app", "intents"),))})
    assert table.wakes(obj("FineTuneJob", "b")) == {Key("FineTuneJob", "team", "b"), EVALUATION}


def test_what_is_no_longer_looked_at_no_longer_wakes() -> None:
    table = interests()
    table.add(EVALUATION, {Reference("FineTuneJob", "a"), Reference("FineTuneJob", "b")})
    table.replace(EVALUATION, {Reference("FineTuneJob", "b")})
    assert table.wakes(obj("FineTuneJob", "a")) == {JOB}
    assert EVALUATION in table.wakes(obj("FineTuneJob", "b"))
    table.replace(EVALUATION, set())
    assert EVALUATION not in table.wakes(obj("FineTuneJob", "b"))
    assert len(table) == 0, "nothing is kept of what is gone"
