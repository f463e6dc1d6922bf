"""Whether a live object is already as it should be: the question that keeps a converged operator silent."""

from __future__ import annotations

from typing import Any

import pytest

from anneal.reconcile.apply import contains

POD = {
    "metadata": {"name": "x", "uid": "u", "labels": {"a": "1", "foreign": "2"}},
    "spec": {
        "containers": [
            {
                "name": "main",
                "image": "i",
                "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
                "terminationMessagePolicy": "File",
            }
        ],
        "dnsPolicy": "ClusterFirst",
    },
}


def with_container(**change: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "main", **change}]}}


@pytest.mark.parametrize(
    "wanted",
    [
        {"metadata": {"labels": {"a": "1"}}},
        with_container(image="i"),
        with_container(resources={"requests": {"cpu": "1000m", "memory": "1024Mi"}}),
        with_container(resources={"requests": {"cpu": "1.0"}}),
        with_container(readOnly=False, message="", weight=0),
        {"spec": {"containers": ({"name": "main"},)}},
    ],
    ids=["others' labels", "defaults", "quantities", "decimal quantity", "zero values are not stored", "tuples"],
)
def test_what_the_server_adds_or_rewrites_is_no_difference(wanted: Any) -> None:
    assert contains(POD, wanted)


@pytest.mark.parametrize(
    "wanted",
    [
        {"metadata": {"labels": {"a": "2"}}},
        {"metadata": {"labels": {"b": "1"}}},
        with_container(image="j"),
        with_container(resources={"requests": {"cpu": "2"}}),
        with_container(resources={"limits": {"cpu": "1"}}),
        {"spec": {"containers": [{"name": "main"}, {"name": "second"}]}},
        {"spec": {"containers": []}},
        {"spec": {"dnsPolicy": ["ClusterFirst"]}},
        {"spec": {"volumes": [{"emptyDir": {}}]}},
    ],
    ids=["value", "label", "image", "amount", "limits", "longer list", "shorter list", "type", "missing list"],
)
def test_what_differs_is_seen(wanted: Any) -> None:
    assert not contains(POD, wanted)


def test_equal_amounts_count_only_where_amounts_stand() -> None:
    assert not contains({"data": {"limit": "1000m"}}, {"data": {"limit": "1"}})
    assert contains({"emptyDir": {"sizeLimit": "1Gi"}}, {"emptyDir": {"sizeLimit": "1024Mi"}})
    assert not contains({"requests": {"cpu": "many"}}, {"requests": {"cpu": "1"}})


def test_an_environment_variable_keeps_its_order() -> None:
    live = {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}
    assert not contains(live, {"env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]})
