"""A ModelDeployment on its way, pass by pass: what a plan asks for is so in the next pass.

Deployments do nothing by themselves: a test says when pods answer, fail or go, and when time passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tests.support.builders import NAMESPACE, as_stored, claim, digest, evaluation, fine_tune_job, model_deployment
from tests.unit.kinds.scenes import FACTS, NOW, ago, artifact

from anneal.kinds.contract import Facts, Listing, Object, Plan, Reference, Seen, Wanted
from anneal.kinds.modeldeployment.plan import plan, references

Json = dict[str, Any]
UID = "uid-00001"


def true(type_: str, message: str = "") -> Json:
    return {"type": type_, "status": "True", "reason": type_, "message": message}


def trained(version: str = "intents-v1", age: float = 3600) -> Json:
    """A complete FineTuneJob."""
    status = {"artifact": artifact(version), "completionTime": ago(age), "conditions": [true("Complete")]}
    return as_stored(fine_tune_job(version, {"app": "intents"}), uid=f"uid-of-{version}", **status)


def judged(version: str = "intents-v1", verdict: str = "Passed", age: float = 1800, name: str | None = None) -> Json:
    """A complete Evaluation of that version's artifact."""
    return as_stored(
        evaluation(name or version),
        subjectDigest=digest(version),
        completionTime=ago(age),
        verdict=verdict,
        message=f"The candidate {verdict.lower()}.",
        conditions=[true("Complete")],
    )


@dataclass
class Stage:
    """The object, its children and its neighbours."""

    obj: Json = field(default_factory=lambda: as_stored(model_deployment(), uid=UID))
    others: list[Json] = field(default_factory=lambda: [trained(), judged(), claim("hub"), claim("models")])
    children: dict[tuple[str, str], Json] = field(default_factory=dict)
    now: datetime = NOW
    facts: Facts = FACTS

    # What a test does.

    def edit(self, **spec: Any) -> None:
        """The user changes the spec; None removes a field."""
        changed = {**self.obj["spec"], **spec}
        metadata = {**self.obj["metadata"], "generation": self.obj["metadata"]["generation"] + 1}
        self.obj = {**self.obj, "metadata": metadata, "spec": {k: v for k, v in changed.items() if v is not None}}

    def pods_answer(self, revision: str, ready: int | None = None) -> None:
        """All pods (or that many) that the revision's Deployment asks for answer."""
        deployment = self.deployment(revision)
        replicas = deployment["spec"]["replicas"]
        deployment["status"] = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": replicas,
            "updatedReplicas": replicas,
            "readyReplicas": replicas if ready is None else ready,
        }

    def pod(self, revision: str, name: str = "pod-x", *, init: Any = (), containers: Any = (), **status: Any) -> None:
        """A pod of that revision, with those statuses of its containers."""
        self.children["Pod", name] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "uid": f"uid-of-{name}",
                "creationTimestamp": ago(10),
                "labels": {"anneal.dev/owner-uid": UID, "anneal.dev/revision": revision},
            },
            "spec": {"containers": [{"name": "server", "resources": {"limits": {"memory": "4Gi"}}}]},
            "status": {
                "phase": "Running",
                "initContainerStatuses": list(init),
                "containerStatuses": list(containers),
                **status,
            },
        }

    def step(self) -> Plan:
        """One pass: what is planned is done. Returns the plan."""
        decided = plan(self.seen(), self.now)
        for manifest in decided.apply:
            self._apply(manifest)
        for gone in decided.delete:
            del self.children[gone.kind, gone.name]
        self.obj = {**self.obj, "status": dict(decided.status)}
        return decided

    def settle(self) -> Plan:
        """Passes until nothing changes any more at this moment. Returns the last plan."""
        for _ in range(20):
            before = (self.obj, {k: dict(v) for k, v in self.children.items()})
            decided = self.step()
            if before == (self.obj, self.children):
                return decided
        raise AssertionError("the plans do not converge")

    def serve(self) -> str:
        """The whole way to an answering revision, with nothing left to drain. Returns its name."""
        self.settle()
        revision = str(self.status["targetRevision"])
        self.pods_answer(revision)
        self.settle()
        self.wait(31)
        for leaving in self.revisions:
            if ("Deployment", self._name(leaving)) in self.children:
                self.pods_answer(leaving)
        self.settle()
        assert self.status["servingRevision"] == revision
        return revision

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    # What a test looks at.

    @property
    def status(self) -> Json:
        status: Json = self.obj["status"]
        return status

    @property
    def revisions(self) -> list[str]:
        return [r["name"] for r in self.status["revisions"]]

    def is_true(self, type_: str) -> bool:
        return next(c["status"] for c in self.status["conditions"] if c["type"] == type_) == "True"

    def reason(self, type_: str) -> str:
        return str(next(c["reason"] for c in self.status["conditions"] if c["type"] == type_))

    def deployment(self, revision: str) -> Json:
        return self.children["Deployment", self._name(revision)]

    def replicas(self, revision: str) -> int:
        return int(self.deployment(revision)["spec"]["replicas"])

    @property
    def traffic(self) -> str | None:
        """The revision that the stable Service points at."""
        service = self.children.get(("Service", "intents"))
        return service["spec"]["selector"]["anneal.dev/revision"] if service else None

    def seen(self) -> Seen:
        found: dict[Wanted, Any] = {}
        while new := references(self.obj, found) - found.keys():
            found.update({wish: self._look(wish) for wish in new})
        return Seen(obj=self.obj, children=tuple(self.children.values()), found=found, facts=self.facts)

    def replace(self, *objects: Json) -> None:
        """These instead of the others of their kind and name."""
        mine = {(o["kind"], o["metadata"]["name"]) for o in objects}
        self.others = [o for o in self.others if (o["kind"], o["metadata"]["name"]) not in mine] + list(objects)

    def remove(self, kind: str) -> None:
        self.others = [o for o in self.others if o["kind"] != kind]

    def _look(self, wish: Wanted) -> Any:
        alike = [o for o in [*self.others, *self.children.values()] if o["kind"] == wish.kind]
        if isinstance(wish, Reference):
            return next((o for o in alike if o["metadata"]["name"] == wish.name), None)
        assert isinstance(wish, Listing)
        labels = dict(wish.labels).items()
        return tuple(o for o in alike if labels <= o["metadata"].get("labels", {}).items())

    def _name(self, revision: str) -> str:
        return next(
            name
            for (kind, name), child in self.children.items()
            if kind == "Deployment" and child["metadata"]["labels"]["anneal.dev/revision"] == revision
        )

    def _apply(self, manifest: Object) -> None:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        old = self.children.get((kind, name), {"metadata": {"generation": 0, "uid": f"uid-of-{kind}-{name}"}})
        new = {k: v for k, v in manifest.items() if k != "metadata"}
        changed = any(old.get(k) != v for k, v in new.items())
        kept: Mapping[str, Any] = old["metadata"]
        metadata = {**kept, **manifest["metadata"], "generation": kept["generation"] + changed}
        self.children[kind, name] = {**old, **new, "metadata": metadata}


def stage(*others: Json, facts: Facts = FACTS, name: str = "intents", **spec: Any) -> Stage:
    """A ModelDeployment with `spec` laid over the usual, beside these objects (default: all that it needs)."""
    made = Stage(obj=as_stored(model_deployment(name, **spec), uid=UID), facts=facts)
    if others:
        made.others = [*others, claim("hub"), claim("models")]
    return made


def with_images(triton: str) -> Facts:
    return replace(FACTS, images=replace(FACTS.images, triton=triton))
