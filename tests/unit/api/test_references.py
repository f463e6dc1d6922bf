"""The URI grammar."""

from __future__ import annotations

import pytest

from anneal.api.references import HttpsLocation, PvcLocation, parse


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("pvc://hub", PvcLocation("hub", "")),
        ("pvc://hub/", PvcLocation("hub", "")),
        ("pvc://hub/a/b.jsonl", PvcLocation("hub", "a/b.jsonl")),
        ("https://example.com/a?b=c", HttpsLocation("https://example.com/a?b=c")),
    ],
)
def test_good_uris_name_a_location(uri: str, location: PvcLocation | HttpsLocation) -> None:
    assert parse(uri) == location


@pytest.mark.parametrize(
    "uri",
    ["", "hub/a", "s3://b/k", "http://x/y", "pvc:///a", "pvc://Hub/a", "pvc://hub/../b", "pvc://hub/a b", "https://x"],
)
def test_bad_uris_are_refused_in_a_sentence(uri: str) -> None:
    with pytest.raises(ValueError, match=r"not a supported URI|cannot leave its claim"):
        parse(uri)


def test_a_location_knows_its_children_and_its_place_below_a_mount() -> None:
    folder = PvcLocation("models", "intents")
    assert folder.child("abc", "x.json").uri == "pvc://models/intents/abc/x.json"
    assert folder.below("/claims/models") == "/claims/models/intents"
    assert PvcLocation("models", "").below("/claims/models") == "/claims/models"
