"""Runs of MLflow clients in a comparison: what their cards tell, in the form of any other run.

Knows the card; nothing of trials and jobs.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from clew.base.records.comparing import ComparedRun
from clew.base.records.run_cards import RunCard


class ForeignRun(Struct, frozen=True, kw_only=True):
    """What a run of an MLflow client is held by, side by side with others."""

    told: ComparedRun
    params: Mapping[str, object]
    metrics: Mapping[str, float]
    environment: Mapping[str, str]
    configuration: Mapping[str, object]
    code: str
    """The version of its code; '' where nobody knows."""


def foreign_run(card: RunCard, subject: str) -> ForeignRun:
    """The run of a card."""
    took = card.ended_at - card.started_at if card.ended_at and card.started_at else None
    told = ComparedRun(
        subject=subject,
        kind="run",
        id=card.run or card.subject,
        title=card.title,
        trial="",
        experiment="",
        job="",
        model_version=None,
        global_id=card.global_id,
        state=card.state or "unknown",
        seed=0,
        steps=card.steps,
        busy_s=took.total_seconds() if took else 0.0,
    )
    logged = card.logged
    lines = logged.requirements if logged else ()
    packages = dict(map(_pinned, lines))
    if logged and logged.python:
        packages["python"] = logged.python
    return ForeignRun(
        told=told,
        params=card.params,
        metrics={name: value for name, value in card.metrics.items() if value is not None},
        environment=packages,
        configuration=_configuration(card),
        code=card.code_version,
    )


def _pinned(line: str) -> tuple[str, str]:
    name, _, version = line.partition("==")
    return name.strip(), version.strip() or line


def _configuration(card: RunCard) -> dict[str, object]:
    """What it was told besides: its data by their digests, its signature, its code."""
    found: dict[str, object] = {
        "code": card.code,
        "code version": card.code_version,
        "flavours": ", ".join(card.logged.flavours) if card.logged else "",
        "inputs": ", ".join(f"{one.name}: {one.type}" for one in card.logged.inputs)
        if card.logged
        else "",
    }
    for one in card.datasets:
        name = f"dataset {one.context} {one.name}" if one.context else f"dataset {one.name}"
        rows = "" if one.rows is None else f", {one.rows} rows"
        found[name] = f"{one.digest}{rows}"
    return {name: value for name, value in found.items() if value}
