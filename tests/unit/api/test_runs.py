"""What passes between operator and pods survives the way: it fits, it parses, or it is an error."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from anneal.api.runs import (
    MAX_RESULT_BYTES,
    EvaluateData,
    PrepareRun,
    RunResult,
    encode_result,
    parse_result,
    parse_run,
)

DIGEST = "sha256:" + "a" * 64


def largest_judgement(guarded: int = 0) -> EvaluateData:
    """As many numbers as a spec allows, as long as the evaluator writes them: 4 metrics, of them `guarded` by a guard,
    4 baselines, 8 gates of 8 claims.
    """
    judged = 4 - guarded
    return EvaluateData(
        models=[(1_000_000, *[100_000] * 4, 600_000_000, 600_000_000, "99999.999999", "-2025-08-07")] * 5,
        results=[(3, 4, 100_000, "0.1234", "0.1234", "0.1234")] * 20,
        comparisons=[(3, 4, 100_000, "-0.1234", "-0.1234", "-0.1234", "1.2e-05", "0.1234")] * 16,
        gates=[("Inconclusive", "-0.123456", "-0.123456", "-0.123456", 1_000_000)] * 8,
        claims=["01234567"] * 8,
        queries_per_hour=460_800_000,
        judge=(500_000, 500_000, "99999.999999", "-2025-08-07") if judged else None,
        judged=[(3, 500_000, 500_000, "0.1234", "0.1234", "-0.1234", 100_000, *["0.1234"] * 5)] * judged,
        guard=(500_000, 500_000, "99999.999999", "-2025-08-07") if guarded else None,
        hazards=[("c" * 24, 100_000)] * 6 if guarded else [],
        report_uri="pvc://models/" + "p" * 200,
        report_digest=DIGEST,
    )


@pytest.mark.parametrize("guarded", [0, 1, 4])
def test_the_largest_judgement_fits_with_its_numbers_and_part_of_its_message(guarded: int) -> None:
    judgement = largest_judgement(guarded)
    result = RunResult(role="evaluate", outcome="Succeeded", reason="Judged", message="m" * 5000, evaluate=judgement)
    encoded = encode_result(result)
    assert len(encoded) <= MAX_RESULT_BYTES
    back = parse_result(encoded.decode())
    assert back.evaluate == result.evaluate
    assert back.message.endswith("…")
    assert len(back.message) > 100


def test_a_message_of_wide_characters_is_cut_by_bytes() -> None:
    encoded = encode_result(RunResult(role="fit", outcome="Failed", reason="X", message="€" * 4000))
    assert len(encoded) <= MAX_RESULT_BYTES
    assert parse_result(encoded.decode()).message.startswith("€")


@pytest.mark.parametrize("text", ["", "Traceback (most recent call last)", "{}", '{"role":"fit"}', "0"])
def test_what_is_not_a_result_is_an_error_that_shows_it(text: str) -> None:
    with pytest.raises(ValueError, match="without a readable result") as caught:
        parse_result(text)
    assert (text.strip() or "nothing") in str(caught.value)


def test_a_run_is_told_apart_by_its_role() -> None:
    document = (
        '{"role":"prepare","object":{"kind":"FineTuneJob","namespace":"n","name":"j","uid":"u"},'
        '"model":{"uri":"pvc://hub/m","path":"/claims/hub/m"},"sources":[],"expect":{},"split":{},"maxLength":64}'
    )
    assert isinstance(parse_run(document), PrepareRun)
    with pytest.raises(ValidationError):
        parse_run(document.replace("prepare", "dance"))
