"""The conditions of an Evaluation that follow from what a rule decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anneal.kinds.conditions import Mark, Verdict, no, unknown, yes
from anneal.kinds.evaluation import approval
from anneal.kinds.evaluation.context import Context
from anneal.kinds.evaluation.custody import WORN
from anneal.kinds.evaluation.reasons import Reason

COMPLETE, FAILED, APPROVED = "Complete", "Failed", "Approved"


def marks(ctx: Context, verdict: Verdict, recorded: Mapping[str, Any]) -> dict[str, Mark]:
    """Every condition of the kind's own, of an object with these fields in status."""
    ended = {COMPLETE: COMPLETE, FAILED: FAILED}.get(verdict.phase)
    return {
        type_: yes(verdict.reason, verdict.message) if ended == type_ else no(verdict.reason)
        for type_ in (COMPLETE, FAILED)
    } | {
        "CandidateReady": _candidate_mark(ctx, verdict),
        "UnderPowered": _power_mark(ctx, verdict),
        "Worn": _wear_mark(recorded.get("datasetUses")),
        APPROVED: approval.mark({**ctx.seen.obj, "status": recorded}),
    }


def _power_mark(ctx: Context, verdict: Verdict) -> Mark:
    if verdict.reason == Reason.INVALID_SPEC or ctx.held_out_rows is None:
        return unknown(verdict.reason)
    if ctx.shortage is not None:
        return yes(Reason.UNDER_POWERED, ctx.shortage)
    if not ctx.is_power_known:
        return unknown(verdict.reason)
    return no(Reason.HELD_OUT_SUFFICES, f"{ctx.held_out_rows} held-out rows.")


def _wear_mark(uses: int | None) -> Mark:
    if uses is None or uses < WORN:
        return no(Reason.HELD_OUT_FRESH, "" if uses is None else f"Use {uses} of the held-out rows.")
    said = (
        f"Use {uses} of the same held-out rows: the best of many candidates owes part of its score to luck with them."
        " Collect new rows (dataset.split.heldOutSource of a new FineTuneJob), or keep some for the last gate alone"
        " (spec.sealed)."
    )
    return yes(Reason.HELD_OUT_WORN, said)


def _candidate_mark(ctx: Context, verdict: Verdict) -> Mark:
    if ctx.subject is not None:
        return yes(Reason.CANDIDATE_RECORDED, f"Judged is {ctx.subject.subject_uri}.")
    if verdict.reason == Reason.CANDIDATE_RECORDED:
        return yes(verdict.reason, verdict.message)
    if verdict.reason == Reason.INVALID_SPEC:
        return unknown(verdict.reason)
    return no(verdict.reason, verdict.message)
