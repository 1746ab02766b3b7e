"""Cells of a notebook as steps: a kernel that applies its pipeline, and a notebook as a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from importlib.util import find_spec
from textwrap import dedent

import pytest

from clew.base.errors import ClewError
from clew.base.notebook import module_of
from clew.base.settings import read_settings
from clew.sdk import connect_embedded
from clew.testing.postgres import database_url
from clew.workspace import make_workspace

CELLS = [
    "import json\nimport clew\nfrom helper import shout",
    "p = clew.Pipeline('p')\nraw = p.source('raw')\np.parameter('least', default=2)",
    "SIZES = {}\nunused = object()",
    "def long(word, least):\n    return len(word) >= least",
    "SIZES['most'] = 2",
    """
    @p.step(raw.glob('/*.txt'), per='file')
    def words(raw: str, least: int) -> list:
        return [shout(word) for word in raw.split() if long(word, least)]
    """,
    """
    @p.step(words)
    def counted(words: list) -> dict:
        return {"words": sorted(words)[:SIZES["most"]]}
    """,
    "words('a bb ccc', least=2)",  # somebody looks at what a step gives
]
APPLY = """
workspace = clew.connect()
applied = workspace.apply(p)
workspace.wait()
"""
AGAIN = """
@p.step(words)
def counted(words: list) -> dict:
    return {"words": words}
"""
READ = "print(json.dumps([one.reason for one in workspace.jobs()]))"

PLAIN = """
import sys, types
main = sys.modules["__main__"]
main.In = [""]
for cell in CELLS:
    main.In.append(cell)
    exec(compile(cell, f"<cell {len(main.In)}>", "exec"), vars(main))
"""
IPYTHON = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
import sys
sys.modules["__main__"] = shell.user_module
for cell in CELLS:
    shell.run_cell(cell, store_history=True).raise_error()
"""


@pytest.fixture
def home(tmp_path):
    url = database_url(tmp_path / ".clew")
    make_workspace(tmp_path / ".clew", {}, db="" if url.startswith("sqlite") else url)
    (tmp_path / "helper.py").write_text("def shout(word):\n    return word.upper()\n")
    return tmp_path


def run(home, driver, cells):
    text = f"CELLS = {[dedent(one).strip() for one in cells]!r}\n{driver}"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CLEW_")}
    return subprocess.run(
        [sys.executable, "-c", text],
        cwd=home,
        env={**environ, "IPYTHONDIR": str(home / ".ipython")},
        capture_output=True,
        text=True,
        timeout=120,
    )


def drivers():
    yield pytest.param(PLAIN, id="plain")
    missing = find_spec("IPython") is None
    skip = pytest.mark.skipif(missing, reason="IPython is not installed: pip install ipython")
    yield pytest.param(IPYTHON, id="ipython", marks=skip)


@pytest.mark.parametrize("driver", list(drivers()))
def test_functions_of_cells_are_steps_and_a_cell_that_ran_again_stands_for_what_it_said(
    home, driver
):
    put = "workspace.put('p/raw', {'/a.txt': b'a ccc bb dd'})\nworkspace.wait()"
    cells = [*CELLS, APPLY, put, AGAIN, "applied = workspace.apply(p)\nworkspace.wait()", READ]
    done = run(home, driver, cells)
    assert done.returncode == 0, done.stderr
    assert "code changed: p_notebook.py:counted" in done.stdout.replace("Code", "code")
    with closing(connect_embedded(read_settings({}, home))) as work:
        got = json.loads(work.read("p/counted@main:/counted.json"))
        assert got == {"words": ["CCC", "BB", "DD"]}
        assert json.loads(work.read("p/counted@main^1:/counted.json")) == {"words": ["BB", "CCC"]}
        words = [job for job in work.jobs() if job.step == "words" and job.done]
        assert len(words) == 1, "the step whose cell did not change is not run again"


def test_a_notebook_file_is_applied(home):
    cells = ["%matplotlib inline\n!ls", *CELLS, "%%bash\nls", "plot(unused)", READ]
    notebook = {
        "nbformat": 4,
        "cells": [
            {"cell_type": "markdown", "source": "# Words"},
            *(
                {"cell_type": "code", "source": dedent(one).strip().splitlines(True)}
                for one in cells
            ),
        ],
    }
    (home / "words.ipynb").write_text(json.dumps(notebook))
    with closing(connect_embedded(read_settings({}, home), working=True)) as work:
        work.apply(home / "words.ipynb", parameters={"least": 3})
        work.put("p/raw", {"/a.txt": b"a ccc bb"})
        work.wait()
        assert json.loads(work.read("p/counted@main:/counted.json")) == {"words": ["CCC"]}
        assert work.pipelines()[0].file == "words_notebook.py"


def module(*cells):
    return module_of([dedent(one) for one in cells])


BEGIN = "import clew\np = clew.Pipeline('p')\nraw = p.source('raw')"
STEP = "@p.step(raw)\ndef f(raw: bytes):\n    return {}"


def test_only_what_a_pipeline_reaches_is_in_its_module():
    text = module(
        BEGIN, "import os", "A = 1\nB = A + 1\nC = 3", STEP.format("B"), "print(C)", "f(1)"
    )
    assert "B = A + 1" in text
    assert "A = 1" in text
    for left_out in ("C = 3", "import os", "print", "f(1)"):
        assert left_out not in text


def test_what_is_altered_in_place_and_what_builds_on_itself_is_kept_in_order():
    text = module(
        BEGIN,
        "A = [1]",
        "A.append(2)",
        "A = A + [3]",
        "for one in []:\n    A.pop()",
        STEP.format("A"),
    )
    space = {}
    exec(
        text.replace("import clew", "from unittest.mock import MagicMock\nclew = MagicMock()"),
        space,
    )
    assert space["A"] == [1, 2, 3]


def test_a_source_whose_cell_ran_again_stands_before_the_steps_that_read_it():
    text = module(BEGIN, STEP.format("1"), "raw = p.source('raw', branch='dev')")
    assert text.index("raw = p.source('raw', branch='dev')") < text.index("def f")
    assert text.count("p.source") == 1


def test_a_pipeline_that_was_made_again_holds_what_came_after():
    text = module(BEGIN, STEP.format("1"), BEGIN, "@p.step(raw)\ndef g(raw: bytes):\n    return 1")
    assert "def g" in text
    assert "def f" not in text


def test_functions_that_call_each_other_are_both_there():
    even = "def even(n):\n    return n == 0 or odd(n - 1)"
    odd = "def odd(n):\n    return n != 0 and even(n - 1)"
    text = module(BEGIN, even, odd, STEP.format("even(2)"))
    assert "def even" in text
    assert "def odd" in text


def test_slots_endpoints_and_rules_of_cells_come_along():
    text = module(
        BEGIN,
        "slot = p.slot('slot')",
        "@slot.option(raw)\ndef one(raw: bytes):\n    return 1",
        "p.monitor('x')\np.monitor('x')",
        "slot.name",
    )
    assert "def one" in text
    assert text.count("p.monitor('x')") == 1
    assert "slot.name" not in text


def test_cells_without_a_pipeline_are_refused():
    with pytest.raises(ClewError) as caught:
        module("a = 1")
    assert caught.value.code == "notebook.no_pipeline"
