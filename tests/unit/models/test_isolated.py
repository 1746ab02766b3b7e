"""A model in a process of another environment answers as it does in this one, and may die."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import zipfile
from datetime import datetime
from pathlib import Path

import cloudpickle
import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pytest

from clew.base.errors import ClewError, Ended, Invalid, ModelError, Unavailable
from clew.base.records import Column, Signature
from clew.models import isolated, isolating
from clew.models.isolated import (
    MODULE,
    Isolated,
    Packed,
    packed,
    packed_array,
    unpacked,
)
from clew.models.isolated_process import main
from clew.models.loading import LoadedModel, Recipe
from clew.models.models import Models
from clew.places import Environments

SOURCE = str(Path(isolated.__file__).parents[2])
RUN = f"runpy.run_module({MODULE!r}, None, '__main__', alter_sys=True)"
START = f"import runpy, sys; sys.path.insert(0, {SOURCE!r}); {RUN}"
COMMAND = (sys.executable, "-P", "-c", START)


class Rule:
    """A model of the project: what it was given decides how it answers."""

    def predict(self, frame):
        first = frame.columns[0] if hasattr(frame, "columns") else 0
        values = frame[first] if hasattr(frame, "columns") else frame[:, first]
        if len(values) == 2:
            raise ValueError("two rows are not for me")
        if len(values) == 3:
            raise RuntimeError("three are a fault")
        if len(values) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        if len(values) == 5:
            raise Invalid("input.type", "five are of the wrong type", hint="Give six.")
        if len(values) == 7:
            raise ValueError("half of a pair: \ud800")
        return values


def content(model: object) -> bytes:
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(model)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def signature(frame: str, *columns: tuple[str, str]) -> Signature:
    inputs = tuple(Column(name=name, type=kind, nullable=True) for name, kind in columns)
    return Signature(frame=frame, inputs=inputs, width=len(inputs), task="regression", classes=())


def both(frame: str, takes: str, *columns: tuple[str, str]):
    asked = {"signature": signature(frame, *columns)}
    recipe = Recipe(takes=takes, method="predict", gives="named")
    model = Echo()
    here = LoadedModel(**asked, recipe=recipe, model=model)
    return here, Isolated(**asked, recipe=recipe, content=lambda: content(model), command=COMMAND)


class Echo:
    """Gives back what came, so that two ways to ask it can be held side by side."""

    def predict(self, frame):
        columns = frame.columns if hasattr(frame, "columns") else range(frame.shape[1])
        pick = (lambda n: frame[n]) if hasattr(frame, "columns") else (lambda n: frame[:, n])
        return {str(name): [str(one) for one in pick(name)] for name in columns}


@pytest.fixture(scope="module")
def rule():
    found = Isolated(
        signature=signature("numpy", ("x", "double")),
        recipe=Recipe(takes="matrix", method="predict", gives="values"),
        content=lambda: content(Rule()),
        command=COMMAND,
    )
    yield found
    found._child.end()


def same(left, right) -> bool:
    return left.keys() == right.keys() and all(
        list(left[name]) == list(right[name]) for name in left
    )


def test_columns_of_all_kinds_arrive_as_they_would_here():
    columns = (
        ("whole", "int64"), ("part", "double"), ("word", "string"), ("yes", "bool"),
        ("when", "timestamp[us]"), ("kind", "dictionary<values=string, indices=uint32>"),
    )  # fmt: skip
    here, there = both("polars", "polars", *columns)
    given = {
        "whole": [1, None, 3],
        "part": [0.5, None, float("inf")],
        "word": ["ä b", None, ""],
        "yes": [True, None, False],
        "when": [datetime(2024, 2, 29), None, datetime(1969, 12, 31, 23, 59)],
        "kind": ["a", None, "b"],
    }
    frame = pl.DataFrame(given)
    for data in (
        frame,
        frame.with_columns(pl.col("kind").cast(pl.Categorical)),
        frame.to_pandas(),
        given,
        {name: frame[name].drop_nulls().to_numpy() for name in given},
    ):
        assert same(here.predict(data), there.predict(data)), data
    there._child.end()


class Clips:
    """Writes into its rows, as people do who mean a copy of their own."""

    def predict(self, rows):
        if hasattr(rows, "columns"):
            rows.loc[rows["x"] < 0, "x"] = 0.0
            return {"sum": rows["x"] + rows["y"]}
        rows[rows < 0] = 0.0
        return {"sum": rows.sum(axis=1)}


@pytest.mark.parametrize("takes", ["matrix", "pandas"])
def test_a_model_may_write_into_its_rows_and_nobody_elses(takes):
    frame = "numpy" if takes == "matrix" else takes
    asked = {"signature": signature(frame, ("x", "double"), ("y", "double"))}
    recipe = Recipe(takes=takes, method="predict", gives="named")
    here = LoadedModel(**asked, recipe=recipe, model=Clips())
    there = Isolated(**asked, recipe=recipe, content=lambda: content(Clips()), command=COMMAND)
    own = np.array([[-1.0, 2.0], [3.0, 4.0]])
    fixed = np.frombuffer(own.tobytes()).reshape(2, 2)  # as it came over a network
    for rows in (own, fixed):
        data = rows if takes == "matrix" else {"x": rows[:, 0], "y": rows[:, 1]}
        for model in (here, there):
            found = model.predict(data)
            assert found["sum"].tolist() == [2.0, 7.0]
    assert own.tolist() == [[-1.0, 2.0], [3.0, 4.0]]
    there._child.end()


def test_pandas_and_matrices_arrive_too(rule):
    here, there = both("pandas", "pandas", ("a", "double"), ("b", "string"))
    frame = pd.DataFrame({"a": [1.5, np.nan], "b": ["x", "y"]})
    for data in (frame, pl.from_pandas(frame), {"a": np.array([1.5, 2.5]), "b": ["x", "y"]}):
        assert same(here.predict(data), there.predict(data)), data
    there._child.end()
    matrix = np.arange(8, dtype=np.float32).reshape(8, 1)[::-1]
    assert rule.predict(matrix)["prediction"].tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    assert rule.predict(np.empty((0, 1)))["prediction"].tolist() == []
    with pytest.raises(Invalid) as wrong:
        rule.predict(np.ones((6, 3)))
    assert wrong.value.code == "input.columns"


@pytest.mark.parametrize(
    "values",
    [
        np.array([1, 2], dtype=np.int8), np.array([[1.5, 2], [3, 4]], dtype=">f4"),
        np.array(["ä", "bcd"]), np.array([True, False]), np.array(["a", None], dtype=object),
        np.array(["2024-01-01", "NaT"], dtype="datetime64[ns]"), np.empty((0, 3)),
        np.array([[["a"]], [["b"]]], dtype=object), np.asfortranarray(np.arange(6).reshape(2, 3)),
    ],
)  # fmt: skip
def test_arrays_come_back_from_their_frame_as_they_were(values):
    told = msgspec.msgpack.decode(msgspec.msgpack.encode(packed_array(values)), type=Packed)
    again = unpacked(told)
    assert again.shape == values.shape
    assert again.astype(str).tolist() == values.astype(str).tolist()


def test_what_a_model_raises_is_raised_here_and_it_goes_on(rule):
    before = rule.pid
    kinds = {2: ValueError, 3: ModelError, 5: Invalid, 7: ValueError}
    for rows, error in kinds.items():
        with pytest.raises(error):
            rule.predict(np.ones((rows, 1)))
    assert rule.pid == before, "none of them ends the process"
    assert rule.predict(np.ones((1, 1)))["prediction"].tolist() == [1.0]


class Odd:
    """Gives what no client could be told."""

    def predict(self, rows):
        return {"odd": [object()] * len(rows)}


def test_outputs_that_cannot_be_told_are_the_fault_of_one_question():
    there = Isolated(
        signature=signature("numpy", ("x", "double")),
        recipe=Recipe(takes="matrix", method="predict", gives="named"),
        content=lambda: content(Odd()),
        command=COMMAND,
    )
    before = there.pid
    for _ in range(2):
        with pytest.raises(ModelError, match="object"):
            there.predict(np.ones((1, 1)))
    assert there.pid == before
    there._child.end()


def test_a_process_that_dies_costs_what_it_computed_and_nothing_else(rule):
    before = rule.pid
    with pytest.raises(Ended, match="SIGKILL"):
        rule.predict(np.ones((4, 1)))
    assert rule.predict(np.ones((1, 1)))["prediction"].tolist() == [1.0]
    assert rule.pid not in {before, None}


@pytest.mark.parametrize(
    ("pickled", "code"),
    [
        (pickle.dumps(object)[:-1], "model.pickle"),
        (b"cno_such_module_anywhere\nthing\n.", "model.distribution"),
    ],
)
def test_what_cannot_be_loaded_there_is_said_as_it_would_be_here(pickled, code):
    with pytest.raises(ClewError) as refused:
        Isolated(
            signature=signature("numpy", ("x", "double")),
            recipe=Recipe(takes="matrix", method="predict", gives="values"),
            content=lambda: pickled,
            command=COMMAND,
        )
    assert refused.value.code == code
    assert main is not None


def test_a_process_that_ends_before_it_answers_is_said():
    with pytest.raises(Unavailable) as refused:
        Isolated(
            signature=signature("numpy", ("x", "double")),
            recipe=Recipe(takes="matrix", method="predict", gives="values"),
            content=lambda: b"",
            command=(sys.executable, "-c", "raise SystemExit(3)"),
        )
    assert (refused.value.code, "code 3" in refused.value.message) == ("model.apart", True)


def test_the_users_own_code_on_pythonpath_is_there_and_what_is_installed_here_is_not(
    tmp_path, monkeypatch
):
    team, installed = tmp_path / "team", tmp_path / "site-packages"
    for place, name in ((team, "of_team"), (installed, "of_server")):
        place.mkdir()
        (place / f"{name}.py").write_text(
            "class Doubles:\n    def predict(self, rows):\n        return 2 * rows[:, 0]\n"
        )
    monkeypatch.setenv("PYTHONPATH", f"{installed}{os.pathsep}{team}")
    asked = {
        "signature": signature("numpy", ("x", "double")),
        "recipe": Recipe(takes="matrix", method="predict", gives="values"),
        "command": COMMAND,
    }
    there = Isolated(**asked, content=lambda: b"cof_team\nDoubles\n)\x81.")
    assert there.predict(np.array([[1.5], [4.0]]))["prediction"].tolist() == [3.0, 8.0]
    there._child.end()
    with pytest.raises(Unavailable, match="of_server") as refused:
        Isolated(**asked, content=lambda: b"cof_server\nDoubles\n)\x81.")
    assert refused.value.code == "model.distribution"


def test_a_large_pickle_goes_over_in_pieces(monkeypatch):
    monkeypatch.setattr(isolated, "PIECE_BYTES", 10)
    found = Isolated(
        signature=signature("numpy", ("x", "double")),
        recipe=Recipe(takes="matrix", method="predict", gives="values"),
        content=lambda: content(Rule()),
        command=COMMAND,
    )
    assert found.predict(np.ones((1, 1)))["prediction"].tolist() == [1.0]
    found._child.end()


def test_columns_that_are_no_input_still_travel():
    told = packed({"x": [1, 2], "lists": [[1], [2, 3]]})
    assert told.columns["lists"] == Packed(objects=[[1], [2, 3]])


# what such an environment holds -----------------------------------------------------------------


def wheel(directory: Path, name: str, version: str, needs: str = "") -> None:
    plain = name.replace("-", "_")
    info = f"{plain}-{version}.dist-info"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
    kind = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    directory.mkdir(exist_ok=True)
    with zipfile.ZipFile(directory / f"{plain}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{plain}.py", "")
        archive.writestr(f"{info}/METADATA", about)
        archive.writestr(f"{info}/WHEEL", kind)
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def resolve(tmp_path):
    house = Models.__new__(Models)
    house._environments = Environments(tmp_path / "environments")
    for tool in ("cloudpickle", "pandas", "polars", "pyarrow", "onnxruntime"):
        wheel(tmp_path / "wheels", tool, "1.0")
    wheel(tmp_path / "wheels", "mlflow-skinny", "3.0")
    wheel(tmp_path / "wheels", "mlflow", "2.0")
    wheel(tmp_path / "wheels", "skl2onnx", "1.0", "Requires-Dist: tiny>=2\n")
    for version in ("1.0", "2.0"):
        wheel(tmp_path / "wheels", "tiny", version)
    lines = ["--no-index", f"--find-links {tmp_path / 'wheels'}"]

    def found(*requirements: str, convert: bool = True) -> dict[str, str]:
        own = house.resolve([*lines, *requirements], "", tmp_path, convert=convert)
        assert own.requirements == (*lines, *requirements)
        return own.packages

    return found


def test_an_environment_of_a_model_holds_what_packages_and_converts_it(resolve):
    packages = resolve("tiny")
    assert packages["tiny"] == "2.0"
    names = {isolating._plain(one.partition(">")[0]) for one in isolating.TOOLS}
    assert names | set(isolating.CONVERTERS) <= packages.keys()
    assert not set(isolating.CONVERTERS) & resolve("tiny", convert=False).keys()


def test_converters_give_way_to_what_the_user_pins(resolve):
    packages = resolve("tiny==1.0")
    assert packages["tiny"] == "1.0"
    assert "polars" in packages
    assert "skl2onnx" not in packages
    with pytest.raises(Invalid) as refused:
        resolve("tiny==1.0", "tiny==2.0")
    assert refused.value.code == "environment.unsatisfiable"


def test_the_users_own_mlflow_is_the_one_that_packages(resolve):
    packages = resolve("MLflow==2.0")
    assert packages["mlflow"] == "2.0"
    assert "mlflow-skinny" not in packages
