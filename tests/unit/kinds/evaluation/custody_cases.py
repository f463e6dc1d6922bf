"""Evaluations beside others that judge by the same rows. Read it as a table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tests.support.builders import as_stored, digest, evaluation
from tests.unit.kinds.evaluation.objects import ABSOLUTE, ARTIFACT, DONE, RECORDED, at
from tests.unit.kinds.scenes import NOW, ago

from anneal.kinds.contract import Listing, Object, Plan, Seen
from anneal.kinds.evaluation.plan import plan

Json = dict[str, Any]
UID = "uid-00001"
SEALED: Json = {"uri": "pvc://vault/sealed.jsonl", "digest": digest("sealed")}
STARTED = {**RECORDED, "heldOutUri": SEALED["uri"], "datasetDigest": SEALED["digest"]}


def other(
    name: str, *, rows: str = "held out", model: str = "intents-v1", condition: str = "Complete", **status: Any
) -> Object:
    """Another Evaluation that was started on those rows, with that condition True."""
    return as_stored(
        evaluation(name),
        uid=status.pop("uid", f"uid-of-{name}"),
        datasetDigest=digest(rows),
        subjectDigest=digest(model),
        conditions=[{"type": condition, "status": "True", "reason": "Because"}],
        **status,
    )


@dataclass(frozen=True)
class Case:
    """What else there is, what is recorded of this one, and how often its rows are used; 0 where it is refused."""

    others: list[Object]
    uses: int
    status: Json = field(default_factory=dict)
    sealed: Json | None = None
    published: Json = field(default_factory=lambda: ARTIFACT)
    compared: list[Json] | None = None

    @property
    def seen(self) -> Seen:
        data = {"dataset": {"compared": self.compared}} if self.compared is not None else {}
        done = {**DONE, "status": {**DONE["status"], **data, "artifact": self.published}}
        spec = {"sealed": self.sealed, "gates": [ABSOLUTE]}
        given = at(self.status, job=None if self.status else done, spec=spec, claims=("hub", "models", "vault"))
        return replace(given, found={**given.found, Listing("Evaluation"): (given.obj, *self.others)})

    @property
    def decided(self) -> Plan:
        return plan(self.seen, NOW)


AT_ONCE = {"rows": "sealed", "condition": "CandidateReady", "startTime": ago(600), "datasetUses": 1}
CASES: dict[str, Case] = {
    "the first": Case([], 1),
    "others judge by other rows": Case([other("a", rows="others", datasetUses=7)], 1),
    "three before, of which two are left": Case([other("a", datasetUses=1), other("b", datasetUses=3)], 4),
    "one is still at work": Case([other("a", condition="CandidateReady", datasetUses=2)], 3),
    "one told nobody anything": Case([other("a", condition="Failed", datasetUses=2), other("b", datasetUses=1)], 2),
    "one ended before uses were counted": Case([other("a")], 2),
    "the fifth": Case([other("a", datasetUses=4)], 5),
    "sealed, and nobody looked": Case([other("a", datasetUses=9)], 1, sealed=SEALED),
    "sealed, and another candidate was judged": Case(
        [other("a", rows="sealed", model="intents-v0", datasetUses=1)], 2, sealed=SEALED
    ),
    "sealed, and nothing else was held out": Case([], 1, sealed=SEALED, published={**ARTIFACT, "heldOutCount": 0}),
    "sealed, and judged already": Case([other("a", rows="sealed", datasetUses=1)], 0, sealed=SEALED),
    "sealed, and a try before told nobody anything": Case(
        [other("a", rows="sealed", condition="Failed", datasetUses=1)], 1, sealed=SEALED
    ),
    "sealed, both started at once, this one is first": Case(
        [other("a", uid="uid-00002", **AT_ONCE)], 1, {**STARTED, "datasetUses": 1}, SEALED
    ),
    "sealed, both started at once, the other one is first": Case(
        [other("a", uid="uid-00000", **AT_ONCE)], 0, {**STARTED, "datasetUses": 1}, SEALED
    ),
}
