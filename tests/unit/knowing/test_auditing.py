"""What code reads undeclared is noted, and what it may read is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HEAD = """
import os, random, secrets, socket, subprocess, sys, tempfile, time, uuid, zoneinfo
from pathlib import Path
import clew

p = clew.Pipeline("p")
raw = p.source("raw")
"""

TOLD = {
    "environ": ("os.environ['HOME']", "env", "HOME"),
    "getenv": ("os.getenv('CERTAINLY_NOT_SET')", "env", "CERTAINLY_NOT_SET"),
    "clock": ("time.time()", "clock", "time.time"),
    "drawn": ("random.random()", "random", "random (not seeded)"),
    "generator": ("random.Random().random()", "random", "random.Random() (not seeded)"),
    "uuid": ("uuid.uuid4()", "random", "os.urandom"),
    "secrets": ("secrets.token_hex()", "random", "os.urandom"),
    "numpy": ("import numpy\nnumpy.random.rand()", "random", "numpy.random (not seeded)"),
    "numpy_new": ("import numpy\nnumpy.random.default_rng()", "random", "os.urandom"),
    "program": ("subprocess.run(['true'])", "program", "true"),
    "network": (
        "with socket.socket(type=socket.SOCK_DGRAM) as s:\n  s.connect(('127.0.0.1', 9))",
        "network",
        "127.0.0.1",
    ),
    "open": ("open(PATH).close()", "file", "PATH"),
    "pathlib": ("Path(PATH).read_text()", "file", "PATH"),
    "pandas": ("import pandas\npandas.read_csv(PATH)", "file", "PATH"),
    "polars": ("import polars\npolars.read_csv(PATH)", "file", "PATH"),
    "scan": ("from polars import scan_csv\nscan_csv(PATH).collect()", "file", "PATH"),
}
"""By name of a step: its body, and what it is said to have read (PATH: a file outside)."""

SILENT = {
    "plain": "len(raw)",
    "imports": "import json, decimal, sqlite3, email.message",
    "libraries": "import pandas, polars, pyarrow.parquet, sklearn.tree",
    "yaml": "import yaml\nyaml.safe_load('a: 1')",
    "own_file": "Path('mine').write_text('x')\nPath('mine').read_text()",
    "own_directory": "with tempfile.TemporaryDirectory() as d:\n  Path(d, 'x').write_text('x')\n"
    "  Path(d, 'x').read_text()",
    "own_temporary": "with tempfile.NamedTemporaryFile() as t:\n  open(t.name).close()",
    "zone": "zoneinfo.ZoneInfo('Europe/Berlin').utcoffset(None)",
    "seeded": "random.seed(1)\nrandom.random()",
    "own_generator": "random.Random(1).random()",
    "numpy_generator": "import numpy\nnumpy.random.default_rng(1).random()",
    "numpy_seeded": "import numpy\nnumpy.random.seed(1)\nnumpy.random.rand()",
    "stopwatch": "time.perf_counter()\ntime.sleep(0)\ntime.monotonic()",
    "logging": "import logging\nlogging.warning('said')",
    "uuid5": "uuid.uuid5(uuid.NAMESPACE_DNS, 'a')",
}

ALLOWED = {
    "may_clock": ("time.time()", "allow='clock'"),
    "may_all": ("time.time(); os.getenv('HOME')", "allow='*'"),
    "may_one": ("os.getenv('HOME')", "allow=['env:HOME']"),
    "may_file": ("open(PATH).close()", "allow=['file:*/rates.csv']"),
    "depends": ("os.getenv('HOME')", "depends_on='env:HOME'"),
}


def step(name: str, body: str, options: str = "", path: Path = Path()) -> str:
    lines = body.replace("PATH)", f"{str(path)!r})").replace("\n", "\n    ")
    return (
        f'\n@p.step(raw, per="file"{options and ", " + options})\n'
        f'def {name}(raw: bytes) -> str:\n    {lines}\n    return "done"\n'
    )


@pytest.fixture(scope="module")
def outside(tmp_path_factory) -> Path:
    """A file that no repo and no project has."""
    path = tmp_path_factory.mktemp("outside") / "rates.csv"
    path.write_text("a\n1\n")
    os.utime(path, (1, 1))
    return path


@pytest.fixture(scope="module")
def reads(one_shop, outside) -> dict[str, list[tuple[str, str]]]:
    """What each step is said to have read, after one run of them all."""
    steps = [step(f"s_{name}", body, path=outside) for name, (body, _, _) in TOLD.items()]
    steps += [step(f"s_{name}", body) for name, body in SILENT.items()]
    steps += [step(f"s_{name}", body, more, outside) for name, (body, more) in ALLOWED.items()]
    one_shop.apply(HEAD + "".join(steps))
    one_shop.put(a="1")
    assert [job.error for job in one_shop.clew.jobs() if job.state != "done"] == []
    return {
        job.step.removeprefix("s_"): [(one.kind, one.name) for one in job.undeclared]
        for job in one_shop.clew.jobs()
    }


@pytest.mark.parametrize("name", TOLD)
def test_an_undeclared_read_is_noted(reads, outside, name):
    _, kind, what = TOLD[name]
    assert (kind, str(outside) if what == "PATH" else what) in reads[name]


@pytest.mark.parametrize("name", SILENT)
def test_nothing_is_said_of_what_every_program_does(reads, name):
    assert reads[name] == []


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_declared_is_not_told(reads, name):
    assert reads[name] == []


def test_a_read_is_told_with_its_line(shop):
    shop.apply(HEAD + step("f", "for n in range(100): os.getenv(f'NAME_{n}')"))
    shop.put(a="1")
    undeclared = shop.last().undeclared
    assert undeclared[0].where.startswith("flow.py:")
    assert len(undeclared) <= 50  # and there is an end to it

    found = shop.clew.why(shop.last().id)
    assert "env NAME_0" in {node.title for node in found.nodes if node.kind == "undeclared"}


def test_a_file_read_as_the_code_is_imported_is_noted(shop, outside):
    head = f"RATES = Path({str(outside)!r}).read_text()\n"
    shop.apply(HEAD + head + step("f", "RATES"))
    shop.put(a="1")
    assert [one.name for one in shop.last().undeclared] == [str(outside)]


def test_a_use_of_the_clock_that_the_code_shows_is_told_when_it_is_applied(shop):
    body = HEAD + "from datetime import date\n" + step("f", "date.today()")
    assert any("datetime.date.today in flow.py:f" in note for note in shop.apply(body))
    assert shop.apply(body.replace('per="file"', 'per="file", allow="clock"')) == ()
