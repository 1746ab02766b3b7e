"""Only what changed runs, and it can say why."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .conftest import Lab

UPPER = """
LIMIT = 1

def up(raw: str) -> str:
    return raw.upper() * LIMIT

def join(up: list[str]) -> str:
    return "+".join(up)
"""


def test_a_datum_per_file_runs_once_and_lands_under_the_name_of_its_file(lab: Lab) -> None:
    lab.code(UPPER)
    lab.apply(lab.step("up", "raw/"), lab.step("join", "up"))
    lab.put({"/a.txt": "a", "/b/c.txt": "c"})
    lab.run()
    assert lab.output("up") == {"/a.txt": "A", "/b/c.txt": "C"}
    assert lab.output("join") == {"/join.txt": "A+C"}
    assert lab.reasons("up") == {"/a.txt": "first run", "/b/c.txt": "first run"}
