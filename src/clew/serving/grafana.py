"""A Grafana dashboard over the metrics of endpoints, as the JSON that Grafana imports.

Knows the names of the metrics and nothing of where they come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

_SOURCE = {"type": "prometheus", "uid": "${source}"}
_WHERE = '{endpoint=~"$endpoint"}'
_ARM = "endpoint, version, arm"
_NAMES = "{{endpoint}} v{{version}} {{arm}}"
_WIDE, _HIGH = 24, 8


def _rate(name: str) -> str:
    return f"rate({name}{_WHERE}[$__rate_interval])"


def _per_arm(expression: str) -> str:
    return f"sum by ({_ARM}) ({expression})"


def _share(name: str) -> str:
    return f"{_per_arm(_rate(name))} / {_per_arm(_rate('clew_requests_total'))}"


def _quantile(share: float, name: str) -> str:
    return f"histogram_quantile({share}, sum by (le, {_ARM}) ({_rate(name + '_bucket')}))"


_Panel = tuple[str, str, Sequence[tuple[str, str]]]
_ROWS: Sequence[tuple[str, Sequence[_Panel]]] = (
    (
        "Traffic",
        (
            ("Requests a second", "reqps", [(_per_arm(_rate("clew_requests_total")), _NAMES)]),
            (
                "Share of the traffic",
                "percentunit",
                [(_per_arm(f"clew_revision_traffic_ratio{_WHERE}"), _NAMES)],
            ),
            ("Rows a second", "short", [(_per_arm(_rate("clew_rows_total")), _NAMES)]),
        ),
    ),
    (
        "Latency",
        (
            (
                "Median and 99th percentile",
                "s",
                [
                    (_quantile(0.5, "clew_request_duration_seconds"), f"p50 {_NAMES}"),
                    (_quantile(0.99, "clew_request_duration_seconds"), f"p99 {_NAMES}"),
                ],
            ),
            (
                "Where a request spends its time",
                "s",
                [
                    (
                        (
                            f"sum by (endpoint) ({_rate('clew_queue_seconds_total')}) / "
                            f"sum by (endpoint) ({_rate('clew_requests_total')})"
                        ),
                        "waiting {{endpoint}}",
                    ),
                    (
                        (
                            f"sum by (endpoint) ({_rate('clew_request_duration_seconds_sum')}) / "
                            f"sum by (endpoint) ({_rate('clew_request_duration_seconds_count')})"
                        ),
                        "all {{endpoint}}",
                    ),
                ],
            ),
            (
                "Rows in a batch",
                "short",
                [
                    (
                        (
                            f"{_per_arm(_rate('clew_batch_rows_sum'))} / "
                            f"{_per_arm(_rate('clew_batch_rows_count'))}"
                        ),
                        f"mean {_NAMES}",
                    ),
                    (_quantile(0.99, "clew_batch_rows"), f"p99 {_NAMES}"),
                ],
            ),
        ),
    ),
    (
        "Failures",
        (
            ("Share the model failed at", "percentunit", [(_share("clew_errors_total"), _NAMES)]),
            (
                "Share of refused inputs and of NaN answers",
                "percentunit",
                [
                    (_share("clew_rejected_total"), f"refused {_NAMES}"),
                    (_share("clew_nan_answers_total"), f"NaN {_NAMES}"),
                ],
            ),
            (
                "Overloads and answers that are not in the log",
                "reqps",
                [
                    (_per_arm(_rate("clew_overloads_total")), f"429 {_NAMES}"),
                    ("sum(rate(clew_unlogged_total[$__rate_interval]))", "not logged"),
                ],
            ),
        ),
    ),
    (
        "Processes",
        (
            ("Requests in flight", "short", [("clew_requests_in_flight", "in flight")]),
            (
                "Processes that have each revision",
                "short",
                [(_per_arm(f"clew_revision_loads{_WHERE}"), _NAMES)],
            ),
            (
                "Cores that the models take",
                "short",
                [(_per_arm(_rate("clew_model_seconds_total")), _NAMES)],
            ),
            (
                "Serving processes and revisions in memory",
                "short",
                [("clew_serving_processes", "processes"), ("clew_revisions_loaded", "revisions")],
            ),
        ),
    ),
)
"""Row → panels: title, unit, and what is drawn (expression, legend)."""


def dashboard() -> dict[str, Any]:
    """The dashboard: traffic, latency, failures and processes, by endpoint, version and arm."""
    return {
        "uid": "clew-endpoints",
        "title": "Clew endpoints",
        "tags": ["clew"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_source(), _endpoint()]},
        "panels": list(_panels()),
    }


def _source() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _endpoint() -> dict[str, Any]:
    return {
        "name": "endpoint",
        "label": "Endpoint",
        "type": "query",
        "datasource": _SOURCE,
        "query": "label_values(clew_requests_total, endpoint)",
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for title, panels in _ROWS:
        number += 1
        place = {"x": 0, "y": top, "w": _WIDE, "h": 1}
        yield {"id": number, "type": "row", "title": title, "gridPos": place, "panels": []}
        width = _WIDE // len(panels)
        for at, panel in enumerate(panels):
            number += 1
            place = {"x": at * width, "y": top + 1, "w": width, "h": _HIGH}
            yield _panel(number, panel, place)
        top += 1 + _HIGH


def _panel(number: int, panel: _Panel, place: dict[str, int]) -> dict[str, Any]:
    title, unit, drawn = panel
    return {
        "id": number,
        "type": "timeseries",
        "title": title,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(65 + at), "expr": expression, "legendFormat": legend}
            for at, (expression, legend) in enumerate(drawn)
        ],
    }
