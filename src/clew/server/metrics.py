"""Counts of the workspace in the Prometheus text format.

Knows which counts there are; they are asked of the verbs when a scraper comes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from clew.base.records import Endpoint, Job
from clew.base.verbs import Verbs

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_JOBS = 10_000


class Metrics:
    """Counts of jobs and datums (of the latest 10,000 jobs), events, and requests by endpoint."""

    def __init__(self, verbs: Verbs) -> None:
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
        jobs = self._verbs.jobs(limit=_JOBS)
        yield _job_family(jobs)
        yield _datum_family(jobs)
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


def _job_family(jobs: list[Job]) -> Metric:
    labels = ["pipeline", "step", "state"]
    family = GaugeMetricFamily("clew_jobs", "Jobs (of the latest 10,000), by state.", labels=labels)
    for key, count in sorted(Counter((job.pipeline, job.step, job.state) for job in jobs).items()):
        family.add_metric(key, count)
    return family


def _datum_family(jobs: list[Job]) -> Metric:
    counts = Counter[tuple[str, str, str]]()
    for job in jobs:
        counts[job.pipeline, job.step, "done"] += job.done
        counts[job.pipeline, job.step, "skipped"] += job.skipped
        counts[job.pipeline, job.step, "failed"] += job.failed
    family = GaugeMetricFamily(
        "clew_datums", "Datums of those jobs, by outcome.", labels=["pipeline", "step", "outcome"]
    )
    for key, count in sorted(counts.items()):
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
