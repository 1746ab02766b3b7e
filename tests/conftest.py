"""What holds for all tests: output is as wide as where nobody looks, and no example is timed."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.pop("COLUMNS", None)  # runners of tests in parallel set it for their own reports

settings.register_profile("clew", deadline=None)
settings.load_profile("clew")

FIRST = ("journeys/test_crashes.py", "house", "journeys", "conformance")
"""Minutes long: begun last, one of them would keep one process busy and leave the others idle."""
TESTS = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In parallel (file by file, see the Makefile) what takes long begins first."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=_begins)


def _begins(item: pytest.Item) -> int:
    place = item.path.relative_to(TESTS).as_posix()
    return next((n for n, one in enumerate(FIRST) if place.startswith(one)), len(FIRST))
