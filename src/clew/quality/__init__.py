"""What a table should be, whether it is, what it looks like, and how far another one is from it.

Knows nothing of repos, steps or monitors: frames come in, records go out.
"""

from clew.quality.checking import check
from clew.quality.distances import ColumnDistance, drift
from clew.quality.expectations import Column, Expectation, Table, record
from clew.quality.profiles import profile
from clew.quality.report import ExpectationResult, QualityReport
from clew.quality.tabular import FORMATS, describe

__all__ = [
    "FORMATS",
    "Column",
    "ColumnDistance",
    "Expectation",
    "ExpectationResult",
    "QualityReport",
    "Table",
    "check",
    "describe",
    "drift",
    "profile",
    "record",
]
