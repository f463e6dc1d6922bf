"""The registry of the three kinds: what the CRD generator, the RBAC test and the operator iterate over."""

from __future__ import annotations

from anneal.api import evaluation, finetunejob, modeldeployment
from anneal.api.kind import KindInfo

KINDS: tuple[KindInfo, ...] = (finetunejob.KIND, evaluation.KIND, modeldeployment.KIND)
BY_NAME: dict[str, KindInfo] = {k.kind: k for k in KINDS}
