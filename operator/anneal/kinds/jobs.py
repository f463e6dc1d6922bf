"""The Job that runs one step: what is retried, what is not, and how a Job that exists is asked for again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anneal.api.runs import EXIT_PREEMPTED, EXIT_USER_MISTAKE
from anneal.kinds.children import metadata
from anneal.kinds.contract import Object, Seen

#: First match wins. A user's mistake fails again whatever is tried; a pod that was made to leave did nothing wrong.
POD_FAILURE_POLICY = {
    "rules": [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [EXIT_USER_MISTAKE]}},
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [EXIT_PREEMPTED]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
}
#: The largest that the API server takes.
UNLIMITED = 2**31 - 1


def job(
    seen: Seen,
    name: str,
    role: str,
    template: Mapping[str, Any],
    backoff_limit: int,
    failure_rules: Sequence[Mapping[str, Any]] = (),
) -> Object:
    """A Job of one pod; `failure_rules` go before those of every Job.

    What `template` and the rules say counts only while there is no such Job: see `keeping_template`.
    """
    return keeping_template(
        seen.one("Job", name),
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": metadata(seen, name, role),
            "spec": {
                "suspend": False,
                "parallelism": 1,
                "completions": 1,
                "backoffLimit": backoff_limit,
                "podReplacementPolicy": "Failed",
                "podFailurePolicy": {"rules": [*failure_rules, *POD_FAILURE_POLICY["rules"]]},
                "template": {**template, "spec": {**template["spec"], "restartPolicy": "Never"}},
            },
        },
    )


def spread(wanted: Object, pods: int, meeting: str, live: Object | None) -> Object:
    """The same Job with `pods` pods that work at once, each with a number and a host name below Service `meeting`.

    Whatever ends one pod ends all, and a Job waits twice as long before its next pod for each that failed: of eight
    pods, ten minutes after the first failure. With a limit for each index it counts the failures of an index alone,
    so the wait is 10 s; what ends the Job is still `backoffLimit`. A Job made before this was known stays as it is.
    """
    spec = wanted["spec"]
    paced = live is None or "backoffLimitPerIndex" in live["spec"]
    template = spec["template"]
    template = {**template, "spec": {**template["spec"], "subdomain": meeting}}
    return {
        **wanted,
        "spec": {
            **spec,
            "completionMode": "Indexed",
            "parallelism": pods,
            "completions": pods,
            **({"backoffLimitPerIndex": UNLIMITED} if paced else {}),
            "template": template,
        },
    }


def suspended(wanted: Object) -> Object:
    """The same Job, asked to give its pods back."""
    return {**wanted, "spec": {**wanted["spec"], "suspend": True}}


def keeping_template(live: Object | None, wanted: Object) -> Object:
    """`wanted`, with everything that a Job cannot change taken from the live one, if there is one.

    A pod template is immutable. What it would be today (after an upgrade of the operator, with another leader) must
    not matter to a Job that was made yesterday: server-side apply would be refused forever.
    """
    if live is None:
        return wanted
    kept = {f: live["spec"][f] for f in ("template", "podFailurePolicy") if f in live["spec"]}
    return {**wanted, "spec": {**wanted["spec"], **kept}}
