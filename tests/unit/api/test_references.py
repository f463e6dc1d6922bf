"""The URI grammar."""

from __future__ import annotations

import pytest

from anneal.api.references import (
    GsLocation,
    HttpsLocation,
    HubFile,
    HubModel,
    Location,
    OciLocation,
    PvcLocation,
    S3Location,
    parse,
)

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("pvc://hub", PvcLocation("hub", "")),
        ("pvc://hub/", PvcLocation("hub", "")),
        ("pvc://hub/a/b.jsonl", PvcLocation("hub", "a/b.jsonl")),
        ("https://example.com/a?b=c", HttpsLocation("https://example.com/a?b=c")),
        ("hf://acme/tiny", HubModel("acme/tiny", "main")),
        ("hf://acme/tiny:v1.0", HubModel("acme/tiny", "v1.0")),
        ("hf://datasets/acme/chats/a/b.jsonl", HubFile("acme/chats", "main", "a/b.jsonl")),
        ("hf://datasets/acme/chats:v2/b.jsonl", HubFile("acme/chats", "v2", "b.jsonl")),
        ("s3://bucket/a/b/", S3Location("bucket", "a/b")),
        ("gs://my_bucket.example.com/a/b/", GsLocation("my_bucket.example.com", "a/b")),
        ("oci://ghcr.io/acme/tiny", OciLocation("ghcr.io", "acme/tiny")),
        ("oci://registry:5000/a/b_c/d:v1.0", OciLocation("registry:5000", "a/b_c/d", "v1.0")),
        (f"oci://ghcr.io/acme/tiny@{DIGEST}", OciLocation("ghcr.io", "acme/tiny", digest=DIGEST)),
        (f"oci://ghcr.io/acme/tiny:v1@{DIGEST}", OciLocation("ghcr.io", "acme/tiny", "v1", DIGEST)),
    ],
)
def test_good_uris_name_a_location(uri: str, location: Location) -> None:
    assert parse(uri) == location


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "hub/a",
        "s3://b/k",
        "http://x/y",
        "hf://tiny",
        "hf://a/b:../c",
        "hf://datasets/a/b/../c",
        "s3://bucket/../a",
        "gs://bucket/a/../b",
        "gs://Bucket/a",
        "gs://b/a",
        "pvc:///a",
        "pvc://Hub/a",
        "pvc://hub/../b",
        "pvc://hub/a b",
        "https://x",
        "oci://ghcr.io",
        "oci://ghcr.io/Acme/tiny",
        "oci://ghcr.io/acme/../tiny",
        "oci://ghcr.io/acme/tiny:",
        "oci://ghcr.io/acme/tiny@sha256:0123",
        "oci://user:password@ghcr.io/acme/tiny",
    ],
)
def test_bad_uris_are_refused_in_a_sentence(uri: str) -> None:
    with pytest.raises(ValueError, match=r"not a supported URI|cannot leave its (claim|repository|bucket)"):
        parse(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "pvc://hub/a",
        "https://x/y?z",
        "hf://a/b:main",
        "hf://datasets/a/b:main/c.jsonl",
        "s3://bucket/key",
        "gs://bucket/key",
        "oci://r:5000/a/b",
        f"oci://r/a/b:v1@{DIGEST}",
    ],
)
def test_a_location_has_its_uri(uri: str) -> None:
    assert parse(uri).uri == uri


def test_a_location_knows_its_children_and_its_place_below_a_mount() -> None:
    folder = PvcLocation("models", "intents")
    assert folder.child("abc", "x.json").uri == "pvc://models/intents/abc/x.json"
    assert folder.below("/claims/models") == "/claims/models/intents"
    assert PvcLocation("models", "").below("/claims/models") == "/claims/models"
