"""Reading another kind: only what is complete and can be located counts."""

from __future__ import annotations

import pytest
from tests.support.builders import as_stored, fine_tune_job
from tests.unit.kinds.scenes import artifact

from anneal.kinds.upstream import artifact_of, claims_of, failure_of, location, mounted

ARTIFACT = artifact()


def job(*true: str, **status: object) -> dict[str, object]:
    return as_stored(fine_tune_job(), conditions=[{"type": t, "status": "True", "reason": t} for t in true], **status)


def test_a_complete_job_has_an_artifact() -> None:
    found = artifact_of(job("Complete", artifact=ARTIFACT))
    assert found is not None
    assert found.to_json() == ARTIFACT


@pytest.mark.parametrize(
    "of",
    [
        job(artifact=ARTIFACT),
        job("Complete"),
        job("Complete", artifact={**ARTIFACT, "digest": "none"}),
        job("Complete", artifact={**ARTIFACT, "baseUri": "pvc://hub/../elsewhere"}),
    ],
    ids=["not complete", "no artifact", "no digest", "leaves its claim"],
)
def test_anything_less_has_none(of: dict[str, object]) -> None:
    assert artifact_of(of) is None


def test_a_failure_is_told_in_its_own_words() -> None:
    failed = {"type": "Failed", "status": "True", "reason": "DataInvalid", "message": "line 17: not JSON"}
    assert failure_of(as_stored(fine_tune_job(), conditions=[failed])) == "line 17: not JSON"
    assert failure_of(job("Failed")) == "Failed"
    assert failure_of(as_stored(fine_tune_job(), conditions=[{"type": "Failed", "status": "True"}])) == (
        "it gives no reason"
    )
    assert failure_of(job()) is None


def test_a_location_is_where_the_pod_sees_it() -> None:
    assert mounted(location("pvc://hub/base/")).path == "/claims/hub/base"
    assert mounted(location("pvc://hub")).path == "/claims/hub"
    assert claims_of("pvc://models/a", "pvc://hub/b", "pvc://models/c") == ("hub", "models")


def test_other_schemes_are_in_no_claim() -> None:
    with pytest.raises(ValueError, match="'https://host/file' is not in a claim"):
        location("https://host/file")
