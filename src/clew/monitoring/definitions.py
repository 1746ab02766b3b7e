"""What a user's file says about watching an endpoint.

It records; comparing happens elsewhere in this room.
"""

from __future__ import annotations

from msgspec import Struct, field

from clew.base.errors import Invalid


class DriftDefinition(Struct, frozen=True, kw_only=True):
    """When live data count as drifted.

    ``threshold`` is a population stability index per column; a report is made of at least
    ``min_rows`` new rows and at most the latest ``window_rows`` of them.
    """

    threshold: float = 0.2
    window_rows: int = 20_000
    min_rows: int = 200


class Around(Struct, frozen=True, kw_only=True):
    """What stands around the model of an endpoint, so that the log is not what the model saw.

    ``hidden``: inputs and outputs that are not logged (of all of the log, or of a part). ``apart``:
    ``inputs`` where a function makes what the model takes of what a client sends, ``outputs`` where
    one makes another answer; ``code``: the digest of those functions.
    """

    hidden: frozenset[str] = frozenset()
    apart: tuple[str, ...] = ()
    code: str = ""


class MonitorDefinition(Struct, frozen=True, kw_only=True):
    """A watch over the prediction log of an endpoint. ``retrain``: train anew when it drifts."""

    pipeline: str
    endpoint: str
    model: str = ""
    """The repo of the model that the endpoint serves, ``pipeline/step``."""
    drift: DriftDefinition = field(default_factory=DriftDefinition)
    retrain: bool = False


def drift(
    threshold: float = 0.2, *, window_rows: int = 20_000, min_rows: int = 200
) -> DriftDefinition:
    """Compare live inputs (and answers) with what the model learned from.

    Args:
        threshold: Distance of a column at which drift begins; 0.2 is the usual mark for the
            population stability index. Chance alone does not count: for few rows or many values
            the mark is raised to what 1 in 100 windows without any drift would show.
        window_rows: At most so many of the newest rows are compared.
        min_rows: Fewer new rows than this wait for more.

    Raises:
        Invalid: ``drift.definition``.
    """
    if threshold <= 0 or min_rows < 1 or window_rows < min_rows:
        raise Invalid(
            "drift.definition",
            f"drift(threshold={threshold}, window_rows={window_rows}, min_rows={min_rows}) could "
            "never be compared.",
            hint="Give a threshold above 0 and window_rows >= min_rows >= 1.",
        )
    return DriftDefinition(threshold=threshold, window_rows=window_rows, min_rows=min_rows)
