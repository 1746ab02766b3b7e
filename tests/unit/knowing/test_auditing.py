"""What code reads undeclared is noted, and what it may read is not."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

HEAD = """
import os, random, secrets, socket, subprocess, sys, tempfile, time, uuid, zoneinfo
from pathlib import Path
import clew

p = clew.Pipeline("p")
raw = p.source("raw")
"""

FILE_OUTSIDE = {
    "open": "open(PATH).close()",
    "pathlib": "Path(PATH).read_text()",
    "pandas": "import pandas\npandas.read_csv(PATH)",
    "polars": "import polars\npolars.read_csv(PATH)",
    "scan": "from polars import scan_csv\nscan_csv(PATH).collect()",
    "numpy_text": "import numpy\nnumpy.loadtxt(PATH, dtype=str)",
    "numpy_memory": "import numpy\nnumpy.memmap(PATH, mode='r')",
    "arrow_csv": "import pyarrow.csv\npyarrow.csv.read_csv(PATH)",
    "duckdb": "import duckdb\nduckdb.read_csv(PATH)",
    "sqlite": "import sqlite3\nsqlite3.connect(PATH).close()",
    "csv": "import csv\nwith open(PATH) as f:\n  list(csv.reader(f))",
    "joblib": "import joblib, contextlib\nwith contextlib.suppress(Exception): joblib.load(PATH)",
    "in_thread": "from threading import Thread\n"
    "t = Thread(target=open, args=[PATH])\nt.start(), t.join()",
    "by_library": "import pandas\npandas.read_table(PATH, sep=';')\n",
    "posix": "os.close(os.open(PATH, os.O_RDONLY))",
}
"""By name of a step: its body, which reads PATH, a file outside."""

TOLD = {name: (body, "file", "PATH") for name, body in FILE_OUTSIDE.items()} | {
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
    "listed": ("os.listdir(Path(PATH).parent)", "file", "PARENT"),
    "globbed": ("list(Path(PATH).parent.glob('*'))", "file", "PARENT"),
    "missing": (
        "import contextlib\nwith contextlib.suppress(OSError): open('/no/such')",
        "file",
        "/no/such",
    ),
    "permuted": (
        "import numpy\nnumpy.random.permutation(5)",
        "random",
        "numpy.random (not seeded)",
    ),
    "fitted": (
        "from sklearn.linear_model import SGDRegressor\nSGDRegressor().fit([[1.], [2.]], [1., 2.])",
        "random",
        "numpy.random (not seeded)",
    ),
}
"""By name of a step: its body, and what it is said to have read (PATH: a file outside)."""

SILENT = {
    "plain": "len(raw)",
    "imports": "import json, decimal, sqlite3, email.message",
    "libraries": "import pandas, polars, pyarrow.parquet, sklearn.tree",
    "more_libraries": "import scipy.stats, duckdb, optuna, joblib, PIL.Image, matplotlib.pyplot",
    "servers": "import fastapi, sqlalchemy, requests, httpx2, fsspec, pydantic, cloudpickle",
    "onnx": "import onnxruntime, skl2onnx",
    "fit": "from sklearn.linear_model import LogisticRegression\n"
    "LogisticRegression().fit([[1.], [2.]], [0, 1]).predict([[1.]])",
    "fit_seeded": "from sklearn.ensemble import RandomForestRegressor\n"
    "RandomForestRegressor(2, random_state=1).fit([[1.], [2.]], [1., 2.])",
    "datasets": "from sklearn.datasets import load_iris, load_wine\nload_iris(), load_wine()",
    "parallel": "from joblib import Parallel, delayed\n"
    "Parallel(n_jobs=2, prefer='threads')(delayed(abs)(n) for n in range(3))",
    "sampler": "import optuna\noptuna.samplers.TPESampler(seed=1)",
    "versions": "import importlib.metadata as m\nm.version('numpy'), list(m.entry_points())",
    "resources": "from importlib import resources\n"
    "resources.files('sklearn.datasets').joinpath('data/iris.csv').read_text()",
    "written_table": "import pandas\npandas.DataFrame({'a': [1]}).to_csv('x.csv')\n"
    "pandas.read_csv('x.csv')",
    "figure": "import matplotlib\nmatplotlib.use('Agg')\nimport matplotlib.pyplot as plt\n"
    "plt.plot([1, 2])\nplt.savefig('x.png')\nplt.close()",
    "processes": "import psutil\npsutil.cpu_count(), psutil.virtual_memory()",
    "source": "import inspect, json\ninspect.getsource(json)",
    "warned": "import warnings\nwarnings.catch_warnings(record=True).__enter__()\n"
    "warnings.warn('said', stacklevel=1)",
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
    lines = re.sub(r"\bPATH\b", repr(str(path)), body).replace("\n", "\n    ")
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
    names = {"PATH": str(outside), "PARENT": str(outside.parent)}
    assert (kind, names.get(what, what)) in reads[name]


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
