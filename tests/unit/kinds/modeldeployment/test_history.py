"""Old revisions: kept for rollback, rolled back to by name, forgotten in the end."""

from __future__ import annotations

from typing import Any

from tests.support.builders import digest
from tests.unit.kinds.modeldeployment.situations import settled
from tests.unit.kinds.modeldeployment.stage import Stage, judged, stage, trained

from anneal.kinds.modeldeployment.reasons import Reason


def served(*versions: str, **spec: Any) -> tuple[Stage, list[str]]:
    """Every version was served in turn: (stage, revisions in that order)."""
    made = stage(*[trained(v) for v in versions], *[judged(v) for v in versions], **spec)
    names = []
    for version in versions:
        made.edit(model={"fineTuneJobRef": {"name": version}})
        names.append(made.serve())
    return made, names


def children(made: Stage, revision: str) -> list[str]:
    return sorted(
        kind
        for (kind, _), child in made.children.items()
        if child["metadata"]["labels"].get("anneal.dev/revision") == revision
    )


def test_old_revisions_are_kept_without_pods_up_to_the_limit() -> None:
    made, [a, b, c, d] = served("a", "b", "c", "d", revisionHistoryLimit=2)
    assert made.revisions == [d, c, b]
    assert [made.replicas(r) for r in (d, c, b)] == [1, 0, 0]
    assert children(made, a) == []
    assert children(made, b) == ["ConfigMap", "Deployment", "Service"]


def test_a_revision_is_forgotten_in_status_before_its_children_are_deleted() -> None:
    made, [a, b] = served("a", "b")
    made.edit(revisionHistoryLimit=0)
    assert made.step().delete == ()
    assert made.revisions == [b]
    assert [d.kind for d in made.step().delete] == ["Deployment", "Service", "ConfigMap"]
    assert children(made, a) == []


def test_nothing_is_forgotten_while_pods_drain() -> None:
    made, [a, b] = served("a", "b", revisionHistoryLimit=0)
    assert made.revisions == [b]
    made.edit(model={"fineTuneJobRef": {"name": "a"}})
    made.settle()
    made.pods_answer(a)
    made.settle()
    assert made.revisions == [a, b]
    assert made.replicas(b) == 1


def test_a_rollback_by_name_starts_the_old_pods_and_moves_traffic_when_they_answer() -> None:
    made, [a, b] = served("a", "b")
    made.edit(revision=a)
    made.settle()
    assert (made.traffic, made.replicas(a), made.replicas(b)) == (b, 1, 1)
    made.pods_answer(a)
    made.settle()
    assert (made.traffic, made.status["digest"]) == (a, digest("a"))
    made.wait(30)
    made.settle()
    assert (made.replicas(a), made.replicas(b), made.revisions) == (1, 0, [b, a])


def test_a_rollback_keeps_the_settings_of_then() -> None:
    made, [a] = served("a")
    made.edit(resources={"memory": "8Gi"})
    b = made.serve()
    before = made.deployment(a)["spec"]["template"]
    made.edit(revision=a)
    made.serve()
    assert made.deployment(a)["spec"]["template"] == before
    assert made.deployment(b)["spec"]["template"] != before


def test_a_rollback_needs_no_new_proof() -> None:
    made, [a, _] = served("a", "b")
    made.remove("Evaluation")
    made.edit(revision=a)
    made.serve()
    assert (made.traffic, made.status["gate"], made.reason("GatePassed")) == (a, "Passed", Reason.EVALUATION_PASSED)


def test_what_was_served_without_proof_says_so_when_pinned() -> None:
    made = stage(trained(), gate={"skip": True})
    revision = made.serve()
    made.edit(gate={}, revision=revision)
    made.settle()
    assert (made.status["gate"], made.reason("GatePassed")) == ("Skipped", Reason.GATE_SKIPPED)


def test_without_the_pin_it_goes_forward_again() -> None:
    made, [a, b] = served("a", "b")
    made.edit(revision=a)
    made.serve()
    made.edit(revision=None)
    made.serve()
    assert (made.traffic, made.status["digest"]) == (b, digest("b"))


def test_a_pin_holds_against_newer_artifacts() -> None:
    made, [a, b] = served("a", "b")
    made.edit(revision=a)
    made.serve()
    made.replace(trained("c"), judged("c"))
    made.edit(model={"fineTuneJobRef": {"name": "c"}})
    made.settle()
    assert (made.traffic, made.revisions) == (a, [b, a])


def test_an_unknown_pin_lists_what_is_known() -> None:
    made, [a, b] = served("a", "b")
    made.edit(revision="0123abcd")
    made.settle()
    assert (made.traffic, made.status["reason"]) == (b, Reason.REVISION_NOT_FOUND)
    assert f"known are: {b}, {a}. Revision {b} keeps serving." in made.status["message"]
    nothing = settled(stage(trained(), judged(), revision="0123abcd"))
    assert "known are: none." in nothing.status["message"]


def test_a_revision_whose_deployment_is_gone_cannot_be_rolled_back_to() -> None:
    made, [a, b] = served("a", "b")
    made.edit(resources={"memory": "8Gi"})
    c = made.serve()
    del made.children["Deployment", made.deployment(a)["metadata"]["name"]]
    made.settle()
    assert made.revisions == [c, b]
    assert children(made, a) == []


def test_a_pin_gives_a_failed_revision_another_try() -> None:
    made, [a] = served("a")
    made.replace(trained("b"), judged("b"))
    made.edit(model={"fineTuneJobRef": {"name": "b"}})
    made.settle()
    made.wait(600)
    made.settle()
    failed = made.status["targetRevision"]
    assert made.status["revisions"][0]["failed"] is True
    made.edit(replicas=2)
    made.settle()
    assert (made.replicas(failed), made.replicas(a)) == (0, 2)
    made.edit(revision=failed)
    made.settle()
    assert (made.replicas(failed), made.status["reason"]) == (2, Reason.ROLLING_OUT)
    assert "message" not in made.status["revisions"][0]
    made.serve()
    assert made.traffic == failed


def test_a_failed_revision_is_not_tried_again_by_itself() -> None:
    made, [a] = served("a", revisionHistoryLimit=0)
    made.replace(trained("b"), judged("b"))
    made.edit(model={"fineTuneJobRef": {"name": "b"}})
    made.settle()
    for _ in range(3):
        made.wait(1000)
        made.settle()
        failed, kept = made.status["revisions"]
        assert (failed["failed"], kept["name"], made.replicas(failed["name"])) == (True, a, 0)


def test_an_old_revision_has_the_whole_deadline_to_answer_again() -> None:
    made, [a, b] = served("a", "b")
    made.wait(100_000)
    made.edit(revision=a)
    made.settle()
    assert (made.status["reason"], made.replicas(a)) == (Reason.ROLLING_OUT, 1)
    made.wait(599)
    made.settle()
    assert made.status["reason"] == Reason.ROLLING_OUT
    made.wait(1)
    made.settle()
    assert (made.status["reason"], made.replicas(a), made.traffic) == (Reason.REVISION_NOT_READY, 0, b)
