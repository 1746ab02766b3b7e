"""The clients that people have, each in an environment of its own, against real models served:
tritonclient over HTTP and gRPC, kserve's REST and gRPC clients.

The environments are made once by uv below the temporary directory of the system; where a package
cannot be had, its tests are skipped and say so. The programs in ``clients/`` are ours: each makes
every call that its client has and ends with the word "passed".
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import polars as pl
import pytest

import clew

CLEW = [sys.executable, "-m", "clew.cli"]
INSTALL_S = 900
RUN_S = 300
LIMIT = pytest.mark.timeout(INSTALL_S + RUN_S)
PROGRAMS = Path(__file__).with_name("clients")
ENVIRONMENTS = {
    "triton": ["tritonclient[http,grpc]>=2.60", "numpy>=2"],
    "kserve": ["kserve>=0.15"],
}
SERVER = ["protobuf>=6", "h2>=4.3,<5", "hpack>=4.1", "hyperframe>=6.1"]
"""What the server needs for gRPC, where it is not installed beside Clew."""


def uv(*arguments):
    """Run uv; skip where what is asked for cannot be had."""
    program = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    told = subprocess.run(
        [program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=INSTALL_S,
        check=False,
    )
    if told.returncode:
        pytest.skip(f"{arguments[-1]} cannot be had here: {told.stderr.strip()[-300:]}")


def made(name, wanted, make):
    """A directory that ``make`` fills with what is wanted, once."""
    place = Path(tempfile.gettempdir()) / f"clew-clients-{os.getuid()}" / name
    done = place / "installed.json"
    if not done.exists() or json.loads(done.read_text()) != wanted:
        shutil.rmtree(place, ignore_errors=True)
        make(place)
        done.write_text(json.dumps(wanted))
    return place


def python_of(name):
    """The interpreter of a client's environment."""
    wanted = ENVIRONMENTS[name]

    def make(place):
        uv("venv", "--quiet", "--python", sys.executable, place)
        uv("pip", "install", "--quiet", "--python", place / "bin" / "python", *wanted)

    return made(name, wanted, make) / "bin" / "python"


def server_path():
    """PYTHONPATH of the server, with gRPC on it where Clew's environment has none."""
    given = os.environ.get("PYTHONPATH", "")
    if all(importlib.util.find_spec(name) for name in ("google.protobuf", "h2")):
        return given

    def make(place):
        to = ["--target", place, "--python", sys.executable, "--no-deps"]
        uv("pip", "install", "--quiet", *to, *SERVER)

    found = made("server", SERVER, make)
    return os.pathsep.join(filter(None, [given, str(found)]))


def rows():
    draw = np.random.default_rng(1)
    numbers = draw.normal(size=(300, 30))
    frame = pl.DataFrame({f"f{at}": numbers[:, at] for at in range(30)})
    at = np.arange(300)
    return frame.with_columns(
        id=pl.Series(at),
        large=pl.Series((numbers[:, 0] > 0).astype(int)),
        word=pl.Series([f"wörd{each}" for each in at]),
        count=pl.Series(at),
        weight=pl.Series([None if each % 7 == 0 else each / 2 for each in at]),
    ).with_columns(total=pl.col("count") + pl.col("weight").fill_null(0.0))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A whole `clew server` with three endpoints: URL of the endpoints, and HOST:PORT of gRPC."""
    home = tmp_path_factory.mktemp("clients")
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CLEW_")}
    environ |= {"PYTHONPATH": server_path(), "CLEW_AUTOLOG": "off", "COLUMNS": "200"}

    def clew(*arguments):
        subprocess.run([*CLEW, *arguments], cwd=home, env=environ, check=True, timeout=RUN_S)

    shutil.copy(PROGRAMS / "project.py", home / "clients.py")
    (home / "rows.csv").write_text(rows().write_csv())
    clew("init", "--bare", ".")
    clew("apply", "clients.py")
    clew("put", "clients/raw", "rows.csv")
    ports = ["--port", "0", "--serving-port", "0", "--grpc-port", "0", "--processes", "2"]
    process = subprocess.Popen(
        [*CLEW, "server", *ports], cwd=home, env=environ, stdout=subprocess.PIPE, text=True
    )
    said = ""
    for line in process.stdout:
        said += line
        if "Ctrl-C" in line:
            break
    address = re.search(r"gRPC +(\S+:\d+)", said)
    assert address, said
    yield json.loads((home / ".clew" / "server.json").read_text())["serving_url"], address[1]
    process.terminate()
    process.stdout.read()
    assert process.wait(60) == 0
    process.stdout.close()


def passes(name, program, *arguments):
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("CLEW_", "PYTHON"))}
    told = subprocess.run(
        [python_of(name), PROGRAMS / f"{program}.py", *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert told.stdout.endswith("passed\n"), told.stdout[-2000:] + told.stderr[-4000:]
    assert told.returncode == 0, told.stderr[-4000:]


@LIMIT
def test_tritonclient_over_http_passes_with_every_call_it_has(served):
    passes("triton", "triton_http", urlsplit(served[0]).netloc)


@LIMIT
def test_tritonclient_over_grpc_passes_with_every_call_it_has(served):
    passes("triton", "triton_grpc", served[1])


@LIMIT
def test_the_clients_of_kserve_pass_with_every_call_they_have(served):
    passes("kserve", "kserve_both", served[0], served[1])


@LIMIT
def test_our_descriptors_and_generated_ones_read_each_other_under_the_clients_protobuf():
    source = Path(clew.__file__).parent / "serving" / "messages.py"
    passes("triton", "descriptors", source)
