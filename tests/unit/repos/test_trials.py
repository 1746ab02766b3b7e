"""kill -9 and loss of power at any step of writing: refs old or new, no reachable byte lost."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


def run(directory: Path, first: int, deaths: int, *, timeout_s: float) -> None:
    script = Path(__file__).with_name("trials.py")
    command = [sys.executable, str(script), str(directory), str(first), str(deaths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    *wrong, last = done.stdout.splitlines()
    assert not wrong, "\n".join(wrong)
    assert done.returncode == 0, done.stderr
    died = re.fullmatch(r"deaths: (\d+) \((\d+) while writing, (\d+) while rebuilding.*", last)
    assert died is not None
    assert int(died[1]) >= deaths
    assert int(died[2]) > int(died[3]) > 0
    sys.stdout.write(last)


def test_some_trials_of_death(tmp_path):
    run(tmp_path, 0, 8, timeout_s=170)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_deaths(tmp_path):
    run(tmp_path, 1000, 1000, timeout_s=1700)
