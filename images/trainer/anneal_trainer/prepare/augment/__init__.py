"""Rows that a hosted model writes after training rows, and another one checks: asked, judged, counted, paid once.

What asks is imported only where rows are wanted: it brings an HTTP client along, and most data is prepared without.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anneal.api.artifacts import digest_of_file
from anneal.api.costs import amount
from anneal.api.dataset import AugmentationStatus
from anneal.api.runs import GENERATOR, VALIDATOR, PrepareRun
from anneal.api.subjects import Generation
from anneal_trainer import files
from anneal_trainer.prepare import report
from anneal_trainer.prepare.against import Against
from anneal_trainer.prepare.augment.prompts import PROMPT_VERSION, VERDICT_SCHEMA, WRITTEN_SCHEMA
from anneal_trainer.prepare.choose import Choice
from anneal_trainer.prepare.ledger import Ledger
from anneal_trainer.prepare.read import Reader
from anneal_trainer.workspace import Workspace

if TYPE_CHECKING:
    from anneal_trainer.prepare.asking import Asker
    from anneal_trainer.prepare.augment.grow import Grower, Origin

#: The source of written rows, in messages and files.
SOURCE = "dataset.augmentation"


def check_keys(run: PrepareRun, workspace: Workspace) -> None:
    """Looks for API keys before any work is done. Raises TrainerError."""
    if (asker := _asker(run, workspace)) is not None:
        asker.check_keys()


def grower(
    run: PrepareRun, workspace: Workspace, reader: Reader, check: Callable[[], None], against: Against | None = None
) -> Grower | None:
    """What adds written rows, if any are wanted."""
    asker = _asker(run, workspace)
    if asker is None or run.augmentation is None:
        return None
    from anneal_trainer.prepare.augment.grow import Grower

    return Grower(run, run.augmentation, reader, asker, check, against)


def status(done: Grower, choice: Choice) -> AugmentationStatus:
    """What came of it, for status."""
    growth = done.growth
    made = [origin for _, origin in _used(done, choice)]
    return AugmentationStatus(
        generator=next((origin.generator for origin in made), ""),
        validator=next((origin.validator for origin in made), ""),
        asked=growth.asked,
        unanswered=growth.unanswered,
        written=growth.written,
        accepted=len(made),
        rejected=report.row_counts(growth.reasons()),
        ended=growth.ended,
        cost=amount(done.asker.spent()),
    )


def record(done: Grower, choice: Choice, workspace: Workspace, account: Ledger) -> dict[str, Any]:
    """Writes where every written row comes from, or why it is not used; what the report says of it."""
    for number, reason, why in done.growth.rejected:
        account.leave_out(SOURCE, "row", number, reason, why)
    with files.replacing(workspace.generated) as stream:
        for row, origin in _used(done, choice):
            stream.write(json.dumps(_provenance(done, row, origin), ensure_ascii=False).encode() + b"\n")
    wanted = done.wanted
    return {
        "promptVersion": PROMPT_VERSION,
        "generator": wanted.generator.to_json(),
        "validator": wanted.validator.to_json(),
        "instructions": wanted.instructions or "",
        "rowsDigest": digest_of_file(workspace.generated),
    }


def _used(done: Grower, choice: Choice) -> list[tuple[int, Origin]]:
    """The accepted rows that the last look, at leaks, has left."""
    return [(row, origin) for row, origin in done.growth.origins.items() if row not in choice.left_out]


def _provenance(done: Grower, row: int, origin: Origin) -> dict[str, Any]:
    store = done.reader.store
    category = store.labels[row][0]
    return {
        "id": store.keys[row].hex()[:16],
        "seed": store.keys[origin.seed].hex(),
        "generator": origin.generator,
        "validator": origin.validator,
        "promptVersion": PROMPT_VERSION,
        **({"category": category} if category else {}),
        "messages": [message.to_json() for message in store.example(row).messages],
    }


def _asker(run: PrepareRun, workspace: Workspace) -> Asker | None:
    wanted = run.augmentation
    if wanted is None:
        return None
    from anneal_trainer.prepare.asking import Asker, Respondent, replies_in

    writer, checker = wanted.generator, wanted.validator
    return Asker(
        field=SOURCE,
        respondents={
            GENERATOR: Respondent(writer, writer.max_tokens or 4096, replies_in(WRITTEN_SCHEMA)),
            VALIDATOR: Respondent(checker, checker.max_tokens or 1024, replies_in(VERDICT_SCHEMA)),
        },
        options=Generation(concurrency=wanted.concurrency, timeout_seconds=wanted.timeout_seconds),
        max_cost=Decimal(wanted.max_cost),
        keys=Path(run.keys),
        directory=workspace.augmentation,
    )
