"""What is watched, and how the API server is asked for it."""

from __future__ import annotations

from kopf import Resource as KopfResource
from tests.unit.loop.toy import kind

from anneal.handlers import connection, kopf_settings, watched
from anneal.kube.client import Credentials


def test_our_kinds_are_watched_whole_and_children_by_label_on_the_server() -> None:
    own, children = watched([kind(), kind()])
    assert [r.plural for r in own] == ["finetunejobs", "finetunejobs"]
    assert [r.plural for r in children] == ["configmaps", "pods"]
    selectors = kopf_settings(children).watching.label_selectors
    pods = KopfResource(group="", version="v1", plural="pods")
    ours = KopfResource(group="anneal.dev", version="v1alpha1", plural="finetunejobs")
    assert selectors.collect(pods) == ["app.kubernetes.io/managed-by=anneal"]
    assert selectors.collect(ours) == []


def test_kopf_connects_with_what_the_client_has() -> None:
    made = connection(Credentials("https://api", "bearer abc", "/ca", None, None, verify=True))
    assert (made.server, made.scheme, made.token, made.ca_path) == ("https://api", "Bearer", "abc", "/ca")
    assert made.expiration is not None
    assert made.as_http_headers() == {"Authorization": "Bearer abc"}


def test_a_client_certificate_is_enough() -> None:
    made = connection(Credentials("https://api", None, "/ca", "/cert", "/key", verify=True))
    assert made.as_http_headers() == {}
    assert (made.certificate_path, made.private_key_path) == ("/cert", "/key")
