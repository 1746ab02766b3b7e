"""What is known of another form of a model: whether it may serve, and where it answers otherwise.

Plain values that travel between rooms and over the wire; they know no storage.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field


class Difference(Struct, frozen=True, kw_only=True):
    """A row on which the two forms answer otherwise.

    ``by``: of how much, in the unit of the output (for labels 1). A form that refuses the row has
    ``{"refused": why}`` for its answer.
    """

    row: int
    inputs: dict[str, Any]
    original: dict[str, Any]
    converted: dict[str, Any]
    output: str
    by: float


class RowSet(Struct, frozen=True, kw_only=True):
    """Rows of one kind that both forms were asked.

    ``refused``: rows that both refuse. ``largest``: by output, the largest difference of all rows.
    ``differing``: rows beyond the tolerance; ``worst`` shows some of them, the worst first.
    """

    name: str
    about: str
    rows: int
    refused: int = 0
    differing: int = 0
    largest: dict[str, float] = field(default_factory=dict)
    worst: tuple[Difference, ...] = ()


class Parity(Struct, frozen=True, kw_only=True):
    """Whether a converted form of a model answers as the original does.

    ``serves``: ``onnx``, or ``original``, for the reason in ``why``. ``digests``: SHA-256 of the
    files of both forms. ``made_with``: versions of the distributions that converted and compared.
    ``speed``: microseconds of both forms for 1 and for 64 rows, where it was packaged.
    """

    serves: str
    why: str
    tolerance: dict[str, str] = field(default_factory=dict)
    sets: tuple[RowSet, ...] = ()
    speed: dict[str, float] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    made_with: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows that were compared in all."""
        return sum(one.rows for one in self.sets)
