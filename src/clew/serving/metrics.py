"""Counts as Prometheus reads them.

Knows nothing of where counts come from. Text format 0.0.4, base units.
"""

from __future__ import annotations

from collections.abc import Mapping

from clew.serving.stats import BOUNDS_S, Counts

_COUNTERS = (
    ("clew_requests_total", "Requests answered.", "requests"),
    ("clew_errors_total", "Requests that the model failed at.", "errors"),
    ("clew_rejected_total", "Requests whose input was refused.", "rejected"),
    ("clew_nan_answers_total", "Answers with a NaN among the outputs.", "nans"),
)


def render(
    counts: Mapping[tuple[str, str], Counts], gauges: Mapping[str, tuple[str, float]]
) -> str:
    """The text of ``/metrics``: counts by (endpoint, revision), and name → (help, value)."""
    lines: list[str] = []
    labels = {key: f'endpoint="{key[0]}",revision="{key[1]}"' for key in counts}
    for name, help_text, field in _COUNTERS:
        lines += [f"# HELP {name} {help_text}", f"# TYPE {name} counter"]
        lines += [f"{name}{{{labels[key]}}} {getattr(each, field)}" for key, each in counts.items()]
    name = "clew_request_duration_seconds"
    lines += [
        f"# HELP {name} From the last byte of a request to its answer.",
        f"# TYPE {name} histogram",
    ]
    for key, each in counts.items():
        lines += _histogram(name, labels[key], each)
    for name, (help_text, value) in gauges.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}", f"{name} {value:g}"]
    return "\n".join(lines) + "\n"


def _histogram(name: str, labels: str, counts: Counts) -> list[str]:
    lines, below = [], 0
    for bound, count in zip(BOUNDS_S, counts.buckets, strict=False):
        below += count
        lines.append(f'{name}_bucket{{{labels},le="{bound:g}"}} {below}')
    total = sum(counts.buckets)
    lines.append(f'{name}_bucket{{{labels},le="+Inf"}} {total}')
    lines.append(f"{name}_sum{{{labels}}} {counts.latency_s:.6f}")
    lines.append(f"{name}_count{{{labels}}} {total}")
    return lines
