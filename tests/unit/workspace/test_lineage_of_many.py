"""What `why` says of a job with more files than it shows, and of files with the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from clew.base.settings import Settings
from clew.workspace import open_workspace
from clew.workspace.explaining import DATUMS_SHOWN

FLOW = """
import clew

p = clew.Pipeline("p")
raw = p.source("raw")

@p.step(raw, per="file")
def clean(raw: bytes) -> bytes:
    return raw

@p.step(clean)
def counted(clean: list[bytes]) -> dict:
    return {"files": len(clean)}
"""
FILES = DATUMS_SHOWN + 3


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place: Path = tmp_path_factory.mktemp("many")
    (place / "flow.py").write_text(FLOW)
    workspace = open_workspace(Settings(home=place / ".clew", workers=2), create=True)
    workspace.apply(place / "flow.py")
    workspace.put("p/raw", {f"/{n:03}.txt": b"%d" % n for n in range(FILES)})
    workspace.wait()
    yield workspace
    workspace.close()


def test_files_that_are_not_shown_are_counted(made):
    why = made.why("p/counted@main:/counted.json")
    (said,) = [one for one in why.sentences if "raw file" in one]
    assert said.startswith(f"It goes back to {DATUMS_SHOWN} raw files: ")
    assert said.endswith(", and to those of 3 datums that are not shown.")
    (rest,) = [node for node in why.nodes if node.kind == "datums"]
    assert rest.title == "and 3 more datums"


def test_files_with_the_same_bytes_keep_their_names(made):
    made.put("p/raw", {"/000.txt": b"same", "/001.txt": b"same"}, replace=True)
    made.wait()
    why = made.why("p/counted@main:/counted.json")
    (said,) = [one for one in why.sentences if "raw file" in one]
    assert "2 raw files: p/raw:/000.txt, p/raw:/001.txt." in said
    files = [node for node in why.nodes if node.kind == "file"]
    assert {made.why(node.id).subject.kind for node in files} == {"file"}
