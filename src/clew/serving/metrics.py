"""Counts as Prometheus reads them.

Knows nothing of where counts come from. Text format 0.0.4, base units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from clew.serving.reports import Arm
from clew.serving.stats import BOUNDS_S, Counts, Work

BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)
"""Upper bounds of the buckets of ``clew_batch_rows``."""
Labels = Mapping[str, str]
_Count = Callable[[Counts], float]

_COUNTERS: tuple[tuple[str, str, _Count], ...] = (
    ("clew_requests_total", "Requests answered.", lambda each: each.requests),
    ("clew_errors_total", "Requests that the model failed at.", lambda each: each.errors),
    ("clew_rejected_total", "Requests whose input was refused.", lambda each: each.rejected),
    ("clew_nan_answers_total", "Answers with a NaN among the outputs.", lambda each: each.nans),
    ("clew_overloads_total", "Requests answered with 429.", lambda each: each.work.overloads),
    ("clew_expired_total", "Requests answered with 504.", lambda each: each.work.expired),
    ("clew_rows_total", "Rows predicted.", lambda each: each.work.rows),
    ("clew_queue_seconds_total", "Waited for a batch.", lambda each: each.work.queue_s),
    ("clew_model_seconds_total", "Spent in the model.", lambda each: _model_s(each.work)),
)  # fmt: skip


def render(arms: Sequence[Arm], gauges: Iterable[tuple[str, str, float, Labels]]) -> str:
    """The text of ``/metrics``: what arms did, and single values (name, help, value, labels)."""
    labels = [_labels(arm) for arm in arms]
    lines: list[str] = []
    for name, help_text, count in _COUNTERS:
        lines += _head(name, help_text, "counter")
        lines += [
            f"{name}{{{each}}} {_number(count(arm.counts))}"
            for each, arm in zip(labels, arms, strict=True)
        ]
    name = "clew_request_duration_seconds"
    lines += _head(name, "From the last byte of a request to its answer.", "histogram")
    for each, arm in zip(labels, arms, strict=True):
        below = zip(BOUNDS_S, _sums(arm.counts.buckets), strict=False)
        lines += _histogram(name, each, below, arm.counts.latency_s, sum(arm.counts.buckets))
    name = "clew_batch_rows"
    lines += _head(name, "Rows that the model was given at once.", "histogram")
    for each, arm in zip(labels, arms, strict=True):
        work = arm.counts.work
        lines += _histogram(name, each, _batches(work), work.rows, work.executions)
    lines += _head("clew_revision_traffic_ratio", "Share of the traffic.", "gauge")
    lines += [
        f"clew_revision_traffic_ratio{{{each}}} {_number(arm.traffic / 100)}"
        for each, arm in zip(labels, arms, strict=True)
    ]
    lines += _head("clew_revision_loads", "Processes that have it in memory.", "gauge")
    lines += [
        f"clew_revision_loads{{{each}}} {arm.loaded}"
        for each, arm in zip(labels, arms, strict=True)
    ]
    told = set[str]()
    for name, help_text, value, more in gauges:
        if name not in told:
            told.add(name)
            lines += _head(name, help_text, "counter" if name.endswith("_total") else "gauge")
        lines.append(f"{name}{_braces(more)} {_number(value)}")
    return "\n".join(lines) + "\n"


def _head(name: str, help_text: str, kind: str) -> list[str]:
    return [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]


def _labels(arm: Arm) -> str:
    return _pairs(
        {
            "endpoint": arm.endpoint,
            "model": arm.model,
            "version": arm.version,
            "revision": arm.revision,
            "arm": arm.arm,
        }
    )


def _braces(labels: Labels) -> str:
    return f"{{{_pairs(labels)}}}" if labels else ""


def _pairs(labels: Labels) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.6f}"


def _sums(counts: Iterable[int]) -> Iterator[int]:
    below = 0
    for count in counts:
        below += count
        yield below


def _histogram(
    name: str, labels: str, below: Iterable[tuple[float, int]], total: float, count: int
) -> list[str]:
    lines = [f'{name}_bucket{{{labels},le="{bound:g}"}} {under}' for bound, under in below]
    lines.append(f'{name}_bucket{{{labels},le="+Inf"}} {count}')
    lines.append(f"{name}_sum{{{labels}}} {_number(total)}")
    lines.append(f"{name}_count{{{labels}}} {count}")
    return lines


def _batches(work: Work) -> Iterator[tuple[float, int]]:
    for bound in BATCH_ROWS:
        yield bound, sum(each.count for size, each in work.batches.items() if size <= bound)


def _model_s(work: Work) -> float:
    return sum(each.infer_s for each in work.batches.values())
