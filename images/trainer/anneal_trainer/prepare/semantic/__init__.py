"""Held-out questions in other words among training rows: hosted models compare meanings, and are paid once.

What asks is imported only where it is wanted: it brings an HTTP client along.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from anneal.api.costs import amount
from anneal.api.dataset import SemanticStatus
from anneal.api.runs import EMBEDDER, VERIFIER, PrepareRun
from anneal.api.semantic import SemanticCheck
from anneal.api.subjects import Generation
from anneal_trainer.prepare.choose import Choice
from anneal_trainer.prepare.semantic.prompts import VERDICT_SCHEMA
from anneal_trainer.prepare.store import Store
from anneal_trainer.workspace import Workspace

if TYPE_CHECKING:
    from anneal_trainer.prepare.asking import Asker
    from anneal_trainer.prepare.semantic.compare import Meanings

#: Who wants to know, in messages.
FIELD = "dataset.leakCheck.semantic"
#: Reason of rows that are left out.
REASON = "SemanticLeak"


def check_keys(run: PrepareRun, workspace: Workspace) -> None:
    """Looks for API keys before any work is done. Raises TrainerError."""
    if run.leak_check.semantic is not None:
        _asker(run, run.leak_check.semantic, workspace).check_keys()


def meanings(run: PrepareRun, workspace: Workspace, store: Store, check: Callable[[], None]) -> Meanings | None:
    """What compares, if it is wanted."""
    wanted = run.leak_check.semantic
    if wanted is None:
        return None
    from anneal_trainer.prepare.semantic.compare import Meanings

    return Meanings(wanted, store, _asker(run, wanted, workspace), check)


def status(done: Meanings, choice: Choice) -> SemanticStatus:
    """What came of it, for status."""
    return SemanticStatus(
        embedder=done.embedder,
        verifier=done.verifier or None,
        compared=done.compared,
        pairs=done.pairs,
        leaks=choice.reasons()[REASON],
        unjudged=done.unjudged,
        cost=amount(done.asker.spent()),
    )


def _asker(run: PrepareRun, wanted: SemanticCheck, workspace: Workspace) -> Asker:
    from anneal_hosted.endpoints import embeddings_endpoint
    from anneal_trainer.prepare.asking import Asker, Respondent, replies_in

    respondents = {EMBEDDER: Respondent(wanted.embedder.hosted, 0, embeddings_endpoint)}
    if wanted.verifier is not None:
        limit = wanted.verifier.max_tokens or 1024
        respondents[VERIFIER] = Respondent(wanted.verifier, limit, replies_in(VERDICT_SCHEMA))
    return Asker(
        field=FIELD,
        respondents=respondents,
        options=Generation(concurrency=wanted.concurrency, timeout_seconds=wanted.timeout_seconds),
        max_cost=Decimal(wanted.max_cost),
        keys=Path(run.keys),
        directory=workspace.semantic,
    )
