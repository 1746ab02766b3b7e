"""The laws of the house that import-linter does not know."""

import ast
import importlib
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "clew"
ROOMS = sorted(
    place.name
    for place in SOURCE.iterdir()
    if (place / "__init__.py").exists() and place.name not in {"templates", "testing"}
)
OPEN_GROUND = {"base"}  # its submodules are its doors: base/__init__ says so
MOST_NAMES = 12
MOST_LINES = 600

ONE_FILE_ONLY = {
    "zstandard": {"store/squeeze.py"},
    "onnxruntime": {"models/onnx_model.py"},
    "onnx": {"models/onnx_graphs.py"},
    "skl2onnx": {"models/onnx_graphs.py"},
    "shap": {"models/explaining.py"},
    "optuna": {"experiments/studies.py"},
    "mlflow": {"models/mlflow_format.py", "server/mlflow/mounted.py"},  # two processes
    "obstore": {"store/objects.py"},
    "sqlite3": {"db/sqlite.py"},
    "psycopg": {"db/postgres.py"},
    "uvloop": {"serving/worker.py"},
    "opentelemetry": {"serving/tracing.py"},
    "google": {"serving/messages.py"},
    "h2": {"serving/http2.py"},
    "hyperframe": {"serving/http2.py"},
    "hpack": {"serving/grpc_calls.py"},
    "ray": {"compute/ray.py", "compute/ray_train.py", "serving/ray_serve.py"},  # a process each
    "xgboost": {"experiments/boosting.py", "callbacks/of_xgboost.py"},
    "pyspark": {"codecs/spark.py", "sdk/spark_udfs.py"},  # frames, and functions
    "fsspec": {"sdk/filesystem.py"},
    "cronsim": {"schedules/schedules.py"},
    "watchfiles": {"sources/directories.py"},
    "redis": {"sources/redis_streams.py"},
    "confluent_kafka": {"sources/kafka_topics.py"},
    "kubernetes": {"cli/cluster.py"},
    "typer": None,
    "jinja2": None,
    "fastapi": None,
}
"""Foreign library → the files that may know it; None: a room of its own (below).

The suites in ``testing`` look at a library from outside and are not counted.
"""

NOT_ALWAYS_HERE = {"google", "h2", "hpack", "hyperframe", "opentelemetry.exporter"}
"""Libraries of extras that a file imports at its top: the file itself is loaded on demand."""

ONE_ROOM_ONLY = {
    "blake3": "store",
    "zstandard": "store",
    "typer": "cli",
    "rich": "cli",
    "fastapi": "server",
    "starlette": "server",
    "jinja2": "server",
    "psutil": "compute",
    "optuna": "experiments",
    "duckdb": "tables",
    "alembic": "db",
}


@cache
def python_files():
    return sorted(p for p in SOURCE.rglob("*.py") if "templates" not in p.parts)


@dataclass(frozen=True)
class Seen:
    """What the laws ask of a file. ``hidden``: line and name of imports inside functions."""

    imports: list[str]
    hidden: list[tuple[int, str]]
    says: bool
    asks_environment: bool


@cache  # parsing all of the source takes seconds
def seen_in(path):
    tree = ast.parse(path.read_text())
    imports, hidden, asks = [], [], False
    waiting = [(tree, False)]
    while waiting:
        node, inside = waiting.pop()
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        elif isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}:
            asks = True
        imports += names
        hidden += [(node.lineno, name) for name in names if inside]
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        waiting += [(child, inside) for child in ast.iter_child_nodes(node)]
    return Seen(imports, hidden, bool(ast.get_docstring(tree)), asks)


def imports_of(path):
    return seen_in(path).imports


def room_of(path):
    return path.relative_to(SOURCE).parts[0]


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in OPEN_GROUND])
def test_a_door_names_what_is_public_and_at_most_a_dozen_things(room):
    door = importlib.import_module(f"clew.{room}")
    assert 0 < len(door.__all__) <= MOST_NAMES, sorted(door.__all__)
    assert all(hasattr(door, name) for name in door.__all__)


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in OPEN_GROUND])
def test_no_submodule_takes_the_name_of_what_a_door_exports(room):
    door = importlib.import_module(f"clew.{room}")
    for path in sorted((SOURCE / room).glob("*.py")):
        if path.stem not in {"__init__", "__main__", "process"}:
            try:
                importlib.import_module(f"clew.{room}.{path.stem}")
            except ModuleNotFoundError as missing:
                if missing.name not in NOT_ALWAYS_HERE:
                    raise
    taken = [name for name in door.__all__ if isinstance(getattr(door, name), ModuleType)]
    assert not taken


def test_no_room_reaches_behind_the_door_of_another():
    wrong = []
    for path in python_files():
        room = room_of(path)
        for name in imports_of(path):
            parts = name.split(".")
            if parts[0] != "clew" or len(parts) < 3 or parts[1] in {room, *OPEN_GROUND}:
                continue
            if room == "testing":
                continue
            wrong.append(f"{path.relative_to(SOURCE)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_no_own_import_hides_inside_a_function():
    wrong = [
        f"{path.relative_to(SOURCE)}:{line} {name}"
        for path in python_files()
        for line, name in seen_in(path).hidden
        if name.split(".")[0] == "clew"
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("library", "room"), ONE_ROOM_ONLY.items())
def test_a_foreign_library_is_known_in_one_room(library, room):
    rooms = defaultdict(list)
    for path in python_files():
        for name in imports_of(path):
            if name.split(".")[0] == library:
                rooms[room_of(path)].append(path.name)
    assert set(rooms) <= {room, "testing"}, dict(rooms)


@pytest.mark.parametrize(
    ("library", "files"), [(k, v) for k, v in ONE_FILE_ONLY.items() if v is not None]
)
def test_a_heavy_library_is_known_in_one_file(library, files):
    found = {
        path.relative_to(SOURCE).as_posix()
        for path in python_files()
        for name in imports_of(path)
        if name.split(".")[0] == library and room_of(path) != "testing"
    }
    assert found <= files, found


def test_no_file_is_a_wall():
    long = {
        path.relative_to(SOURCE).as_posix(): lines
        for path in python_files()
        if (lines := len(path.read_text().splitlines())) > MOST_LINES
        and path.parent.name != "migrations"  # written by `make migration`, never by hand
    }
    assert not long


def test_the_example_of_the_whole_loop_fits_the_eighty_lines_that_are_promised():
    example = SOURCE / "templates" / "late_flights" / "flights.py"
    assert len(example.read_text().splitlines()) <= 80


def test_every_file_says_what_it_is_for_and_what_it_does_not_know():
    silent = [
        path.relative_to(SOURCE).as_posix() for path in python_files() if not seen_in(path).says
    ]
    assert not silent


def test_what_a_rule_does_not_hold_for_says_why():
    """``# noqa: X - why`` and ``# type: ignore[x]  # why``; a rule that holds has no mark."""
    mark = re.compile(r"# (?:ruff: )?(noqa|type: ignore|pragma: no)\b(.*)")
    reason = re.compile(r"(: [A-Z0-9, ]+ - \S|\[[a-z, -]+\]  # \S)")
    root = SOURCE.parents[1]
    silent = [
        f"{path.relative_to(root)}:{number}"
        for folder in ("src", "tests", "benchmarks", "examples")
        for path in sorted((root / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (found := mark.search(line)) and "``# noqa" not in line and not reason.match(found[2])
    ]
    assert not silent, "\n".join(silent)


def test_below_the_workspace_nobody_reads_the_environment():
    above = {"base", "workspace", "server", "client", "cli", "sdk", "testing"}
    wrong = [
        path.relative_to(SOURCE).as_posix()
        for path in python_files()
        if room_of(path) not in above
        and seen_in(path).asks_environment
        and path.relative_to(SOURCE).as_posix() not in ENVIRONMENT_OF_A_CHILD
    ]
    assert not wrong


ENVIRONMENT_OF_A_CHILD = {
    "compute/auditing.py",  # hears, in a worker, what user code asks the environment for
    "pipelines/definitions.py",  # variables that a step depends on, as its workers have them
    "compute/process.py",  # hands its own environment on to the worker
    "compute/spreading.py",  # hands the environment of a node on to its ranks
    "compute/ray_train.py",  # tells Ray Train which of its versions is meant
    "compute/ray.py",  # tells what it starts where it is
    "compute/ranks.py",  # hands its own environment on to the ranks
    "compute/rank.py",  # is told by mpirun who it is
    "base/gpus.py",  # CUDA_VISIBLE_DEVICES, which is the driver's
    "experiments/alone.py",  # is told by torchrun who it is
    "compute/running.py",  # sets the environment of one call
    "serving/alone.py",  # is told by its container where it listens
    "serving/supervisor.py",  # hands its own environment on to the serving process
    "determined/boot/sitecustomize.py",  # is told, in a child, where its files are
    "places/running.py",  # hands its own environment on to a program
    "places/enclosures.py",  # hands some of it on to a sandbox
    "places/uv.py",  # hands its own environment on to uv
    "places/pip.py",  # hands its own environment on to pip
    "places/environments.py",  # is told, in a child, where environments are
    "models/isolated.py",  # hands its own environment on to the process of a model
}
