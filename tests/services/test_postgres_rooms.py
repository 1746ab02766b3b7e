"""Every room keeps its law on PostgreSQL: the unit tests that need a database, run once more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clew.testing.postgres import VARIABLE

ROOT = Path(__file__).parents[2]
ROOMS = (
    "lineage",
    "triggers",
    "monitoring",
    "repos",
    "pipelines",
    "experiments",
    "models",
    "serving",
)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("room", ROOMS)
def test_the_tests_of_a_room_hold_on_postgresql(postgres, room):
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/unit/{room}"],
        cwd=ROOT,
        env=os.environ | {VARIABLE: postgres.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-5000:]
