"""What holds for all tests: output is as wide as where nobody looks, and no example is timed."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.pop("COLUMNS", None)  # runners of tests in parallel set it for their own reports

settings.register_profile("clew", deadline=None)
settings.load_profile("clew")

FIRST = ("test_thirty_random_kills", "test_what_a_document_shows_runs[guide.md]")
"""Each takes minutes: begun last, it would keep one process busy and leave the others idle."""
TESTS = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In parallel, long tests begin first, and what a module prepares is prepared in one process.

    pytest-xdist deals tests out one by one: without a group a fixture of a module is made in each
    process that gets one of its tests.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    for item in items:
        if item.get_closest_marker("xdist_group") is None and _shares(item):
            item.add_marker(pytest.mark.xdist_group(str(item.path.relative_to(TESTS))))
    items.sort(key=_begins)


def _shares(item: pytest.Item) -> bool:
    """Whether a test uses what is made once for its module."""
    made = getattr(item, "_fixtureinfo", None)
    if made is None:
        return False
    last = (found[-1] for found in made.name2fixturedefs.values() if found)
    return any(one.scope == "module" for one in last)


def _begins(item: pytest.Item) -> int:
    if item.name.startswith(FIRST):
        return 0
    place = item.path.relative_to(TESTS).parts[0]
    return {"journeys": 1, "house": 2, "conformance": 3}.get(place, 4)
