"""What the operator tells Prometheus of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from anneal.api.runs import ProgressReport
from anneal.kinds.contract import Key
from anneal.reconcile.queue import Queue
from anneal.reconcile.reconciler import Outcome

_WRITES = frozenset({"apply", "create", "delete"})


#: What running pods told last: (object, report) of each.
Told = Callable[[], Iterable[tuple[Key, ProgressReport]]]


class Work(Collector):
    """How far the work of running pods is, object by object. A series ends when its pod goes silent."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Prometheus' interface of a collector."""
        labels = ["kind", "namespace", "name"]
        percent = GaugeMetricFamily("anneal_work_percent", "Work done, in percent.", labels=labels)
        step = GaugeMetricFamily("anneal_work_step", "Optimizer steps, or answers, done.", labels=labels)
        loss = GaugeMetricFamily("anneal_training_loss", "Mean loss per answer token of late steps.", labels=labels)
        rate = GaugeMetricFamily("anneal_training_tokens_per_second", "Training throughput, tokens/s.", labels=labels)
        seconds = GaugeMetricFamily(
            "anneal_training_step_seconds", "Mean time of late steps, in seconds.", labels=labels
        )
        mfu = GaugeMetricFamily("anneal_training_mfu", "Model FLOP utilisation of late steps, 0 to 1.", labels=labels)
        memory = GaugeMetricFamily("anneal_training_memory_bytes", "Memory at the largest moment.", labels=labels)
        for key, report in self._told():
            of = [key.kind, key.namespace, key.name]
            percent.add_metric(of, report.percent)
            step.add_metric(of, report.step)
            for gauge, told in (
                (loss, report.loss),
                (rate, report.tokens_per_second),
                (seconds, report.step_seconds),
                (mfu, report.mfu),
                (memory, report.peak_memory_bytes),
            ):
                if (value := _number(told)) is not None:
                    gauge.add_metric(of, value)
        yield from (percent, step, loss, rate, seconds, mfu, memory)


def _number(told: str | int | None) -> float | None:
    """What a pod calls a number, or None: pods are not trusted to send one."""
    try:
        return float(told) if told is not None else None
    except ValueError:
        return None


class Metrics:
    """All metrics of one process, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the series
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._passes = Counter(
            "anneal_reconcile_total", "Passes over an object, by how they ended.", ["kind", "result"],
            registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram("anneal_reconcile_seconds", "Duration of a pass.", ["kind"], registry=self._registry)
        self._requests = Counter(
            "anneal_api_requests_total", "Requests to the API server.", ["verb", "kind", "code"],
            registry=self._registry,
        )  # fmt: skip
        self._writes = Counter(
            "anneal_writes_total", "Requests that write, by kind of object.", ["verb", "kind"],
            registry=self._registry,
        )  # fmt: skip
        self._depth = Gauge("anneal_queue_depth", "Objects that wait for a worker.", registry=self._registry)
        self._age = Gauge(
            "anneal_queue_oldest_seconds", "How long the object that waits longest has waited.",
            registry=self._registry,
        )  # fmt: skip
        self._leader = Gauge("anneal_leader", "1 in the process that holds the lease.", registry=self._registry)

    def passed(self, key: Key, outcome: Outcome, seconds: float) -> None:
        """Count a pass."""
        self._passes.labels(key.kind, outcome.result).inc()
        self._seconds.labels(key.kind).observe(seconds)

    def requested(self, verb: str, kind: str, code: int) -> None:
        """Count a request."""
        self._requests.labels(verb, kind, str(code)).inc()
        if verb in _WRITES:
            self._writes.labels(verb, kind).inc()

    def leads(self, queue: Queue, told: Told) -> None:
        """Note that this process leads, works on this queue, and hears what running pods tell."""
        self._leader.set(1)
        self._registry.register(Work(told))
        self._depth.set_function(lambda: len(queue))
        self._age.set_function(queue.oldest_age)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)
