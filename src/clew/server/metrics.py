"""Counts of the workspace in the Prometheus text format.

Knows which counts there are; they are asked of the verbs when a scraper comes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from clew.base.records import Endpoint, JobCount
from clew.server.call import ServedVerbs

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts of jobs and datums, events, and requests by endpoint."""

    def __init__(self, verbs: ServedVerbs) -> None:
        self._verbs = verbs
        self._seq = 0
        self._events = Counter[str]()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """All metrics now."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """What the Prometheus client asks for."""
        counts = self._verbs.job_counts()
        yield _job_family(counts)
        yield _datum_family(counts)
        yield self._event_family()
        yield from _endpoint_families(self._verbs.endpoints())

    def describe(self) -> list[Metric]:
        """Nothing: names are known when they are asked."""
        return []

    def _event_family(self) -> Metric:
        while events := list(self._verbs.events(after=self._seq)):
            self._events.update(event.kind for event in events)
            self._seq = events[-1].seq
        family = CounterMetricFamily("clew_events", "Events recorded, by kind.", labels=["kind"])
        for kind, count in sorted(self._events.items()):
            family.add_metric([kind], count)
        return family


def _job_family(counts: Sequence[JobCount]) -> Metric:
    labels = ["pipeline", "step", "state"]
    family = GaugeMetricFamily("clew_jobs", "Jobs, by state.", labels=labels)
    for one in counts:
        family.add_metric([one.pipeline, one.step, one.state], one.jobs)
    return family


def _datum_family(counts: Sequence[JobCount]) -> Metric:
    outcomes = Counter[tuple[str, str, str]]()
    for one in counts:
        outcomes[one.pipeline, one.step, "done"] += one.done
        outcomes[one.pipeline, one.step, "skipped"] += one.skipped
        outcomes[one.pipeline, one.step, "failed"] += one.failed
    family = GaugeMetricFamily(
        "clew_datums", "Datums of those jobs, by outcome.", labels=["pipeline", "step", "outcome"]
    )
    for key, count in sorted(outcomes.items()):
        family.add_metric(key, count)
    return family


def _endpoint_families(endpoints: list[Endpoint]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "clew_endpoint_requests", "Requests that an endpoint answered.", labels=["endpoint"]
    )
    errors = CounterMetricFamily(
        "clew_endpoint_errors", "Requests that failed.", labels=["endpoint"]
    )
    traffic = GaugeMetricFamily(
        "clew_revision_traffic_percent",
        "Share of the traffic.",
        labels=["endpoint", "revision", "state"],
    )
    for endpoint in endpoints:
        requests.add_metric([endpoint.name], endpoint.requests)
        errors.add_metric([endpoint.name], endpoint.errors)
        for revision in endpoint.revisions:
            if revision.traffic:
                labels = [endpoint.name, str(revision.number), revision.state]
                traffic.add_metric(labels, revision.traffic)
    yield from (requests, errors, traffic)
