"""What so many rows could show at best."""

from __future__ import annotations

import pytest
from tests.support.builders import evaluation

from anneal.api.evaluation import EvaluationSpec
from anneal.kinds.evaluation.foresight import held_out_categories, held_out_rows, is_told, shortage


def said(rows: int, **test: object) -> str | None:
    spec = evaluation()["spec"] | {"gates": [{"metric": "accuracy", **test}]}
    return shortage(EvaluationSpec.model_validate(spec), rows)


def margin(text: str) -> dict[str, str]:
    return {"to": "base", "margin": text}


@pytest.mark.parametrize(
    ("rows", "test", "needed"),
    [
        (150, {"nonInferiority": margin("0.05")}, 314),
        (314, {"nonInferiority": margin("0.05")}, None),
        (200, {"nonInferiority": margin("0.07")}, None),
        (72, {"absolute": {"minLowerBound": "0.95"}}, 72),
        (73, {"absolute": {"minLowerBound": "0.95"}}, None),
        (150, {"absolute": {"minLowerBound": "0.85"}}, None),
        (150, {"absolute": {"maxUpperBound": "0.01"}}, 368),
        (150, {"superiority": {"over": "base", "minEffect": "0.20"}}, None),
        (4, {"superiority": {"over": "base", "minEffect": "0.90"}}, 707),
    ],
)
def test_too_few_rows_and_how_many_would_do(rows: int, test: dict[str, object], needed: int | None) -> None:
    found = said(rows, **test)
    if needed is None or needed <= rows:
        assert found is None
    else:
        assert found is not None
        assert found.endswith(f"needs about {needed}.")


def test_a_percentile_needs_rows_and_a_price_does_not() -> None:
    spec = evaluation()["spec"] | {"servingCostPerHour": "1"}
    gates = [{"latency": {"percentile": 99, "maxMilliseconds": 1}}, {"cost": {"maxPerQuery": "1"}}]
    found = shortage(EvaluationSpec.model_validate(spec | {"gates": gates}), 150)
    assert found == "150 held-out rows are too few to decide: latency p99 needs about 368."


def test_claims_of_which_any_may_hold_need_rows_for_one_at_its_share() -> None:
    claims = [{"metric": "accuracy", "nonInferiority": margin(text)} for text in ("0.05", "0.10")]
    spec = evaluation()["spec"] | {"gates": [{"anyOf": claims}]}
    found = shortage(EvaluationSpec.model_validate(spec), 90)
    # (z(0.9875) + z(0.8))² · 0.1 / 0.1² for the wider margin; by itself 79 rows would do.
    assert found == "90 held-out rows are too few to decide: any of 2 claims needs about 96."
    assert shortage(EvaluationSpec.model_validate(spec), 96) is None


def test_claims_count_the_rows_that_each_has() -> None:
    metrics = [{"name": name, "exactMatch": {}, "only": {"categories": [name]}} for name in ("few", "many")]
    claims = [{"metric": name, "nonInferiority": margin("0.10")} for name in ("few", "many")]
    document = evaluation()["spec"] | {"metrics": metrics, "gates": [{"anyOf": claims}]}
    spec = EvaluationSpec.model_validate(document)
    assert shortage(spec, 200, {"few": 20, "many": 180}) is None
    found = shortage(spec, 100, {"few": 20, "many": 80})
    assert found is not None
    assert found.endswith("any of 2 claims needs about 96 of its categories and has 80.")
    assert is_told(spec, {"few": 20, "many": 80})
    assert not is_told(spec, {"many": 80})


def test_what_nothing_can_reach_is_not_a_matter_of_rows() -> None:
    assert said(150, nonInferiority=margin("0")) is None


@pytest.mark.parametrize(
    ("job", "rows"),
    [
        ({}, 150),
        ({"spec": {"dataset": {"split": {"heldOut": 40}}}}, 40),
        ({"spec": {"dataset": {"split": {"heldOutSource": {"uri": "pvc://hub/x.jsonl"}}}}}, None),
        ({"spec": {"dataset": {}}, "status": {"dataset": {"counts": {"heldOut": 148}}}}, 148),
    ],
)
def test_rows_are_counted_as_soon_as_they_can_be(job: dict[str, object], rows: int | None) -> None:
    assert held_out_rows(job) == rows


@pytest.mark.parametrize(
    ("categories", "known", "says"),
    [
        ([("harmful", 299), ("other", 1)], True, "needs about 368 of its categories and has 299"),
        ([("harmful", 400), ("other", 1)], True, None),
        ([("other", 500)], True, "needs about 368 of its categories and has 0"),  # all categories are listed
        ([(f"c{i}", 90) for i in range(6)], False, None),  # it may be a smaller one
        (None, False, None),
    ],
)
def test_a_metric_of_some_categories_has_their_rows_alone(
    categories: list[tuple[str, int]] | None, known: bool, says: str | None
) -> None:
    gates = [{"metric": "accuracy", "absolute": {"maxUpperBound": "0.01"}}]
    metrics = [{"name": "accuracy", "exactMatch": {}, "only": {"categories": ["harmful"]}}]
    spec = EvaluationSpec.model_validate(evaluation()["spec"] | {"gates": gates, "metrics": metrics})
    listed = categories and [{"name": name, "train": 0, "heldOut": rows} for name, rows in categories]
    found = {c.name: c.rows for c in held_out_categories(spec, {"status": {"dataset": {"categories": listed}}})}
    assert is_told(spec, found) == known
    said = shortage(spec, 540, found)
    assert said is None if says is None else says in (said or "")
