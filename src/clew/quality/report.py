"""What a check found, as records.

Knows nothing of frames or of how it was found.
"""

from __future__ import annotations

from msgspec import Struct

from clew.quality.expectations import Expectation


class ExpectationResult(Struct, frozen=True, kw_only=True):
    """Whether one expectation is met, in a sentence and with evidence.

    ``failed_rows`` of ``total`` values (nulls apart) break it. ``examples`` are up to five of those
    rows: column → value, with ``row``, the number of the row counted from 0, first.
    """

    expectation: Expectation
    passed: bool
    failed_rows: int
    total: int
    message: str
    examples: tuple[dict[str, object], ...] = ()


class QualityReport(Struct, frozen=True, kw_only=True):
    """``passed`` is False where an expectation with action ``fail`` is not met.

    So it is for ``quarantine`` where there are no rows to put aside (a missing column, too few
    rows). ``quarantined`` are the numbers (from 0, ascending) of the rows that broke an expectation
    with action ``quarantine`` which is not met. An expectation that is ``mostly`` kept is met, and
    the rows that break it stay.
    """

    passed: bool
    rows: int
    results: tuple[ExpectationResult, ...]
    quarantined: tuple[int, ...] = ()

    @property
    def failures(self) -> tuple[ExpectationResult, ...]:
        """Expectations that are not met, whatever their action."""
        return tuple(result for result in self.results if not result.passed)

    @property
    def warnings(self) -> tuple[ExpectationResult, ...]:
        """Expectations with action ``warn`` that are not met."""
        return tuple(r for r in self.failures if r.expectation.action == "warn")
