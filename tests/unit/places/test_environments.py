"""A step's own environment: resolved once, built once, in nobody's way, whole or not there."""

import base64
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from clew.base.errors import ClewError
from clew.base.settings import Settings
from clew.compute import Call, ProcessPool
from clew.compute.inline import InlinePool
from clew.places import Environments, find_python
from clew.places import environments as environments_room
from clew.places import uv as uv_room
from clew.workspace import open_workspace

HAS_UV = importlib.util.find_spec("uv") or shutil.which("uv")
pytestmark = pytest.mark.skipif(not HAS_UV, reason="uv is not installed")


def _sum(text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
    return f"sha256={digest.rstrip(b'=').decode()}"


def wheel(directory: Path, name: str, version: str, requires_python: str = ">=3.8") -> None:
    """A wheel of one module that knows its version."""
    directory.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\n"
        f"Name: {name}\nVersion: {version}\nRequires-Python: {requires_python}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    record = [f"{path},{_sum(text)},{len(text)}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]) + "\n"
    with zipfile.ZipFile(directory / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


@pytest.fixture
def wheels(tmp_path: Path) -> list[str]:
    """Requirement lines that find the wheels of the test, and no index."""
    for version in ("1.0", "2.0"):
        wheel(tmp_path / "wheels", "tinything", version)
    wheel(tmp_path / "wheels", "future", "1.0", ">=3.99")
    return ["--no-index", f"--find-links {tmp_path / 'wheels'}"]


@pytest.fixture
def environments(tmp_path: Path) -> Environments:
    return Environments(tmp_path / "environments")


def refused(code: str, act: object, *arguments: object) -> ClewError:
    with pytest.raises(ClewError) as raised:
        act(*arguments)
    assert raised.value.code == code, raised.value
    return raised.value


VERSION = """
import os, sys

def version(payload, context):
    import tinything
    return [tinything.__version__, os.getpid(), "clew.compute.worker" in sys.modules]

def plain(payload, context):
    return [sys.prefix, os.getpid()]

def pin(payload, context):
    import msgspec
    return [msgspec.__version__, sys.path]
"""


def test_workers_of_several_environments_are_warm_at_once(tmp_path, environments, wheels):
    project = tmp_path / "project"
    project.mkdir()
    (project / "a.py").write_text(VERSION)
    programs = {}
    for version in ("1.0", "2.0"):
        found = environments.resolve([*wheels, f"tinything=={version}"], "", project)
        assert found.packages["tinything"] == version
        programs[version] = environments.worker(found.lock, "")
    with ProcessPool(2, tmp_path / "scratch", tmp_path / "logs") as pool:

        def ask(function: str, program: tuple[str, ...] = ()) -> list[object]:
            call = Call(entry=f"a:{function}", payload={}, label="a", snapshot_dir=str(project),
                        program=program)  # fmt: skip
            return pool.submit(call).result(60).unwrap()

        first = {version: ask("version", program) for version, program in programs.items()}
        own = ask("plain")
        again = {version: ask("version", program) for version, program in programs.items()}
        assert ask("plain")[1] == own[1]
    assert {version: answer[0] for version, answer in first.items()} == {"1.0": "1.0", "2.0": "2.0"}
    assert again == first  # the same processes
    assert own[0] == sys.prefix


def test_what_a_step_pins_comes_before_what_clew_needs(tmp_path, environments):
    wheel(tmp_path / "wheels", "numpy", "0.1")
    found = environments.resolve(
        ["--no-index", f"--find-links {tmp_path / 'wheels'}", "numpy"], "", tmp_path
    )
    own, *options, _, lean, _ = environments.worker(found.lock, "")
    code = (
        "import sys; sys.path.append(sys.argv[1]); import numpy, msgspec; print(numpy.__version__)"
    )
    said = subprocess.run([own, *options, "-c", code, lean], capture_output=True, text=True,
                          check=True)  # fmt: skip
    assert said.stdout.strip() == "0.1"


def test_what_cannot_be_resolved_is_told_in_the_words_of_uv(tmp_path, environments, wheels):
    resolve = environments.resolve
    error = refused("environment.unsatisfiable", resolve, [*wheels, "tinything==3.0"], "", tmp_path)
    assert "tinything==3.0" in error.hint
    error = refused("environment.unsatisfiable", resolve, [*wheels, "future"], "", tmp_path)
    assert "3.99" in error.hint
    refused("environment.requirements", resolve, [*wheels, "tinything=!1"], "", tmp_path)


def test_clew_itself_is_no_requirement_of_a_step(tmp_path, environments, wheels):
    wheel(tmp_path / "wheels", "clew", "9.9")
    refused("environment.requirements", environments.resolve, [*wheels, "clew"], "", tmp_path)


def test_a_python_that_is_not_here_is_named_with_those_that_are(
    environments, tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    error = refused("environment.python", environments.resolve, [], "3.99", tmp_path)
    assert "3.99" in error.message
    refused("environment.python", environments.resolve, [], "/no/such/python", tmp_path)
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\necho 3 9 1 cpython-39 /usr\n")
    old.chmod(0o755)
    assert "3.11 or newer" in refused("environment.python", find_python, str(old)).message


def test_without_uv_the_error_says_how_to_get_it(tmp_path, environments, monkeypatch):
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "pip install uv" in refused("environment.no_uv", uv_room.find_uv).hint


def test_an_index_that_cannot_be_reached_is_told_as_such(tmp_path, environments, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    refused("environment.offline", environments.resolve, ["tinything"], "", tmp_path)


BUILD = """
import sys
from pathlib import Path
from clew.places import Environments
print(Environments(Path(sys.argv[1])).worker(sys.argv[2], "")[0], flush=True)
"""


def test_several_processes_build_an_environment_once(tmp_path, environments, wheels):
    lock = environments.resolve([*wheels, "tinything"], "", tmp_path).lock
    builders = [
        subprocess.Popen([sys.executable, "-c", BUILD, str(tmp_path / "environments"), lock],
                         stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]  # fmt: skip
    said = {builder.communicate(timeout=120)[0] for builder in builders}
    assert len(said) == 1
    names = sorted(path.name for path in (tmp_path / "environments").iterdir() if path.is_dir())
    assert [name.partition("-")[0] for name in names] == ["env", "lean"]


def test_a_build_that_was_killed_leaves_nothing_that_is_used(tmp_path, environments, wheels):
    lock = environments.resolve([*wheels, "tinything==1.0"], "", tmp_path).lock
    home = tmp_path / "environments"
    builder = subprocess.Popen([sys.executable, "-c", BUILD, str(home), lock])
    until = time.monotonic() + 60
    while builder.poll() is None and not list(home.glob("new-env-*/*")):
        assert time.monotonic() < until
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    own = environments.worker(lock, "")[0]
    code = "import tinything; print(tinything.__version__)"
    said = subprocess.run([own, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "1.0\n"


def test_who_builds_does_not_meet_what_a_killed_one_left_or_still_writes(
    tmp_path, environments, wheels, monkeypatch
):
    lock = environments.resolve([*wheels, "tinything==1.0"], "", tmp_path).lock
    home, real, other = tmp_path / "environments", environments_room.make_environment, []

    def beside(place, *rest):
        """The uv of a process that was killed goes on writing where that one had begun."""
        name = place.name.rpartition(".")[0]
        left = place.with_name(f"{name}.killed")
        assert not left.exists(), "it was removed first"
        left.mkdir()
        other.append(left)
        real(place, *rest)

    (home / "new-env-0.left").mkdir(parents=True)
    monkeypatch.setattr(environments_room, "make_environment", beside)
    assert Path(environments.worker(lock, "")[0]).exists()
    assert other[0].is_dir()
    environments.collect([(lock, "")], keep_s=0)
    assert not list(home.glob("new-*"))


def test_threads_of_one_process_build_once(tmp_path, environments, wheels):
    lock = environments.resolve([*wheels, "tinything==2.0"], "", tmp_path).lock
    found: list[tuple[str, ...]] = []
    threads = [
        threading.Thread(target=lambda: found.append(environments.worker(lock, "")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_environments_that_nobody_names_go_after_a_while(tmp_path, environments, wheels):
    locks = [
        environments.resolve([*wheels, f"tinything=={one}"], "", tmp_path).lock
        for one in ("1.0", "2.0")
    ]
    places = [Path(environments.worker(lock, "")[0]).parents[1] for lock in locks]
    assert environments.collect([(locks[0], "")]) == []
    long_ago = time.time() - 30 * 24 * 3600
    for place in places:
        os.utime(place, (long_ago, long_ago))
    assert environments.collect([(locks[0], "")]) == [places[1].name]
    assert places[0].is_dir()
    assert not places[1].exists()


PIPELINE = """
import clew

p = clew.Pipeline("tiny")
raw = p.source("raw")


@p.step(raw, requirements={one!r})
def first(raw: bytes) -> dict:
    import tinything

    return {{"version": tinything.__version__, "bytes": len(raw)}}


@p.step(raw, requirements="requirements.txt")
def second(raw: bytes) -> dict:
    import tinything

    return {{"version": tinything.__version__}}


p.cmd("third", ["python", "-c", "import tinything; print(tinything.__version__)"], raw,
      requirements={one!r}, stdout="version.txt")
"""


def test_each_step_of_a_pipeline_has_the_versions_that_it_asks_for(tmp_path, wheels):
    project = tmp_path / "project"
    project.mkdir()
    (project / "requirements.txt").write_text("\n".join([*wheels, "tinything<2 # old"]))
    file = project / "tiny.py"

    def write(version: str) -> None:
        file.write_text(PIPELINE.format(one=[*wheels, f"tinything=={version}"]))

    write("2.0")
    settings = Settings(home=project / ".clew", workers=2)
    with closing(open_workspace(settings, create=True)) as workspace:

        def read(path: str) -> bytes:
            return workspace.read(f"tiny/{path}")

        workspace.apply(file)
        change = workspace.put("tiny/raw", {"/x": b"four"}).global_id
        workspace.wait(change)
        assert read("first:/first.json") == b'{"bytes":4,"version":"2.0"}'
        assert read("second:/second.json") == b'{"version":"1.0"}'
        assert read("third:/version.txt") == b"2.0\n"
        (applied,) = workspace.apply(file)
        assert not applied.changed
        write("1.0")
        (plan,) = workspace.plan(file)
        reasons = {one.step: one.reason for one in plan.datums}
        assert "tinything 2.0 → 1.0" in reasons["first"]
        assert reasons["second"].startswith("unchanged")
        write("2.0")
        (plan,) = workspace.plan(file, packages={"TinyThing": "1.0"})
        told = {one.step: one.reason for one in plan.datums}
        assert "tinything 2.0 → 1.0" in told["first"]
        assert told["second"].startswith("unchanged")  # it has this version already
        with pytest.raises(ClewError) as none:
            workspace.plan(file, packages={"tinything": "7.0"})
        assert none.value.code == "environment.unsatisfiable"


def test_who_runs_calls_inline_has_a_process_for_another_environment(tmp_path):
    (tmp_path / "there.py").write_text(VERSION)
    program = (sys.executable, "-P", "-m", "clew.compute.worker")
    call = Call(
        entry="there:plain", payload={}, label="plain", snapshot_dir=str(tmp_path), program=program
    )
    with closing(InlinePool(tmp_path / "inline")) as pool:
        prefix, pid = pool.submit(call).result().unwrap()
    assert (prefix, pid != os.getpid()) == (sys.prefix, True)
