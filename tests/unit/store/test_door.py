"""The door of the room: what is public, and that it opens quickly."""

from __future__ import annotations

import subprocess
import sys


def test_the_door_loads_nothing_heavy() -> None:
    code = "import sys, clew.store; print(*sorted(m.split('.')[0] for m in sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"numpy", "pyarrow", "pandas", "polars", "sqlalchemy"} & set(loaded)
