"""A kind small enough to test the loop with: one ConfigMap, and a status that says whether it is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.support.builders import NAMESPACE, fine_tune_job
from tests.support.memory_api import Id, MemoryApi

from anneal.api.finetunejob import KIND
from anneal.api.runs import ProgressReport
from anneal.kinds.children import metadata
from anneal.kinds.contract import Facts, Found, Images, Key, Kind, Object, Plan, Seen, Wanted
from anneal.reconcile.reconciler import Reconciler

KEY = Key("FineTuneJob", NAMESPACE, "intents-v1")
FACTS = Facts(Images(trainer="trainer", evaluator="evaluator", triton="triton", vllm="vllm"))


def config_map(seen: Seen, name: str = "settings", **data: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(seen, name, "toy"),
        "data": data or {"a": "1"},
    }


def plan(seen: Seen, now: datetime) -> Plan:
    """Ready once the ConfigMap is seen."""
    ready = bool(seen.of_kind("ConfigMap"))
    reason = "Completed" if ready else "Preparing"
    condition = {
        "type": "Complete",
        "status": "True" if ready else "False",
        "reason": reason,
        "message": f"it is {reason}.",
        "observedGeneration": seen.generation,
    }
    status = {"phase": "Complete" if ready else "Preparing", "reason": reason, "message": f"it is {reason}."}
    return Plan(apply=(config_map(seen),), status={**status, "conditions": [condition]})


def nothing(obj: Object, found: Found) -> frozenset[Wanted]:
    return frozenset()


def kind(
    plan: Callable[[Seen, datetime], Plan] = plan,
    references: Callable[[Object, Found], frozenset[Wanted]] = nothing,
) -> Kind:
    return Kind(info=KIND, owns=(("v1", "ConfigMap"), ("v1", "Pod")), references=references, plan=plan)


class NoProgress:
    def get(self, uid: str) -> ProgressReport | None:
        return None


def surface(key: Key, error: Exception) -> None:
    raise error


@dataclass
class Bench:
    """An API server in memory with one FineTuneJob, and a reconciler of the toy kind."""

    kind: Kind = field(default_factory=kind)
    on_crash: Callable[[Key, Exception], None] = surface
    api: MemoryApi = field(default_factory=MemoryApi)

    def __post_init__(self) -> None:
        self.obj = self.api.put(fine_tune_job())
        self.reconciler = Reconciler(
            self.api,
            [self.kind],
            facts=FACTS,
            progress=NoProgress(),
            clock=self.api.clock.now,
            on_crash=self.on_crash,
        )

    @property
    def status(self) -> Mapping[str, Any]:
        found = self.api.peek("FineTuneJob", KEY.name)
        assert found is not None
        status: Mapping[str, Any] = found.get("status", {})
        return status

    def condition(self, type_: str) -> Mapping[str, Any]:
        return next(c for c in self.status["conditions"] if c["type"] == type_)

    def remove(self) -> None:
        self.api.remove(Id("FineTuneJob", NAMESPACE, KEY.name))


NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
