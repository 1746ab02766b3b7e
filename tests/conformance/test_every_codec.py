"""Every codec of the house, and two of users, pass the suite that is shipped."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, NamedTuple, TypedDict

import duckdb
import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pydantic
from PIL import Image

import clew
from clew.repos import File
from clew.testing.codecs import CodecConformance

ROWS = {"a": [1, 2, None], "text": ["x", "ü 数", None], "n": [0.5, -1.0, 3.25]}


class Polars(CodecConformance):
    annotation = pl.DataFrame

    def values(self):
        schema = {"a": pl.Int64, "text": pl.String, "n": pl.Float64}
        return [pl.DataFrame(ROWS, schema=schema), pl.DataFrame(schema=schema)]

    def same(self, one, other):
        return one.equals(other) and one.schema == other.schema


class TestPolars(Polars):
    pass


class TestPolarsAsArrow(Polars):
    annotation = Annotated[pl.DataFrame, ".arrow"]


class TestPolarsAsCsv(Polars):
    annotation = Annotated[pl.DataFrame, ".csv.gz"]

    def values(self):
        return [pl.DataFrame(ROWS), pl.DataFrame({"a": [1], "text": ['q"uote, and\nline']})]


class TestPolarsAsTsv(TestPolarsAsCsv):
    annotation = Annotated[pl.DataFrame, ".tsv"]
    garbage = (b"",)


class TestPolarsAsLines(TestPolarsAsCsv):
    annotation = Annotated[pl.DataFrame, ".jsonl"]
    garbage = (b'{"a": 1}\n{"a": \n',)


class TestLazy(Polars):
    annotation = pl.LazyFrame

    def values(self):
        return [frame.lazy() for frame in super().values()]

    def same(self, one, other):
        return one.collect().equals(other.collect())


class TestPolarsSeries(CodecConformance):
    annotation = pl.Series

    def values(self):
        return [pl.Series("a", [1, 2]), pl.Series("ü", ["数"]), pl.Series("e", [], dtype=pl.Int8)]

    def same(self, one, other):
        return one.equals(other, check_names=True)


class TestPandas(CodecConformance):
    annotation = pd.DataFrame

    def values(self):
        frame = pd.DataFrame({"a": [1, 2], "text": ["x", "ü 数"]})
        return [frame, frame.set_index("text"), frame.head(0)]

    def same(self, one, other):
        pd.testing.assert_frame_equal(one, other)
        return True


class TestPandasSeries(CodecConformance):
    annotation = pd.Series

    def values(self):
        return [pd.Series([1, 2], name="a"), pd.Series(["ü"], index=["数"], name="b")]

    def same(self, one, other):
        pd.testing.assert_series_equal(one, other)
        return True


class TestArrow(CodecConformance):
    annotation = pa.Table

    def values(self):
        return [pa.table(ROWS), pa.table(ROWS).slice(0, 0)]


class TestArrowBatch(CodecConformance):
    annotation = pa.RecordBatch

    def values(self):
        batch = pa.table(ROWS).to_batches()[0]
        return [batch, batch.slice(0, 0)]


class TestArrowDataset(CodecConformance):
    annotation = ds.Dataset

    def values(self):
        return [ds.dataset(pa.table(ROWS)), ds.dataset(pa.table(ROWS).slice(0, 0))]

    def same(self, one, other):
        return one.to_table().equals(other.to_table())


class TestArrowReader(TestArrowDataset):
    annotation = pa.RecordBatchReader

    def values(self):
        return [one.scanner().to_reader() for one in super().values()]

    def same(self, one, other):  # a reader is used up by writing it
        return one.read_all().schema.equals(other.schema)


class TestDuckdb(CodecConformance):
    annotation = duckdb.DuckDBPyRelation

    def values(self):
        connection = duckdb.connect()
        return [
            connection.sql("select 1 as a, 'ü 数' as text union all select 2, null order by a"),
            connection.sql("select 1 as a limit 0"),
        ]

    def same(self, one, other):
        return one.fetchall() == other.fetchall() and one.columns == other.columns


class TestNumpy(CodecConformance):
    annotation = np.ndarray

    def values(self):
        return [np.arange(6.0).reshape(2, 3), np.array(["ü", "数"]), np.array([], "i4")]

    def same(self, one, other):
        return one.dtype == other.dtype and np.array_equal(one, other)


class TestNumpyByName(TestNumpy):
    annotation = Annotated[dict[str, np.ndarray], ".npz"]

    def values(self):
        return [{"a": np.arange(3), "ü": np.array([0.5])}, {"only": np.zeros((0, 2))}]

    def same(self, one, other):
        return {key.rpartition("/")[2]: value.tolist() for key, value in one.items()} == {
            key: value.tolist() for key, value in other.items()
        }


class TestImages(CodecConformance):
    annotation = Image.Image

    def values(self):
        return [Image.new("RGB", (4, 3), (250, 10, 0)), Image.new("L", (1, 1), 7)]

    def same(self, one, other):
        return (one.mode, one.size, one.tobytes()) == (other.mode, other.size, other.tobytes())


class TestBytes(CodecConformance):
    annotation = bytes
    garbage = ()

    def values(self):
        return [b"\x00\xff", b""]


class TestText(CodecConformance):
    annotation = str
    garbage = (b"fine\n\xff",)

    def values(self):
        return ["ü 数\n", ""]


class TestCompressedText(TestText):
    annotation = Annotated[str, ".txt.gz"]
    garbage = (b"not gzip", b"")
    suffix = ".txt.gz"


class Json(CodecConformance):
    suffix = ".json"
    garbage = (b"", b"{", b"\xff", b"nul")


class TestDict(Json):
    annotation = dict

    def values(self):
        return [{"b": [1, None, {"a": 0.5}], "ü": "数"}, {}]


class TestListOfNumbers(Json):
    annotation = list[int]
    garbage = (b'["a"]', b"[")

    def values(self):
        return [[1, 2], []]


class TestListOfTexts(Json):
    annotation = list[str]
    garbage = (b"[1]",)

    def values(self):
        return [["a", "ü"], []]


class TestFixedTuple(Json):
    annotation = tuple[int, str]
    garbage = (b"[1]", b'["a", 1]')

    def values(self):
        return [(1, "ü"), (2, "")]


class Color(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: float
    name: str = "ü"
    color: Color = Color.RED


class TestDataclass(Json):
    annotation = Point
    garbage = (b"{}", b'{"x": "no"}', b'{"x": 1, "color": "blue"}', b"[]")

    def values(self):
        return [Point(1.0), Point(2.0, "数")]


class Struct(msgspec.Struct):
    x: int
    tags: list[str] = []


class TestStruct(Json):
    annotation = Struct
    garbage = (b"{}", b'{"x": 1.5}')

    def values(self):
        return [Struct(1), Struct(2, ["ü"])]


class Order(pydantic.BaseModel):
    id: int
    price: float = pydantic.Field(gt=0)
    note: str = ""


class TestPydantic(Json):
    annotation = Order
    garbage = (b"{}", b'{"id": 1, "price": -1}')

    def values(self):
        return [Order(id=1, price=2.5), Order(id=2, price=1, note="ü 数")]


class TestListOfModels(Json):
    annotation = list[Order]
    garbage = (b'[{"id": 1, "price": 1}, {"id": 2, "price": -1}]',)

    def values(self):
        return [[Order(id=1, price=2.5), Order(id=2, price=1)], []]


class TestModelsAsLines(TestListOfModels):
    annotation = Annotated[list[Order], ".jsonl"]
    garbage = (b'{"id": 1, "price": 1}\n{"id": 2}\n',)


class TestModelsAsParquet(TestListOfModels):
    annotation = Annotated[list[Order], ".parquet"]
    garbage = (b"", b"not parquet")


class TestModelsByPath(Json):
    annotation = dict[str, Order]
    garbage = (b"{}",)

    def values(self):
        return [{"ü": Order(id=1, price=1), "b": Order(id=2, price=2)}]

    def same(self, one, other):
        return {key.rpartition("/")[2]: value for key, value in one.items()} == other


class Typed(TypedDict):
    a: int


class TestTypedDict(Json):
    annotation = Typed
    garbage = (b"{}", b'{"a": "x"}')

    def values(self):
        return [{"a": 1}, {"a": 2}]


class Named(NamedTuple):
    a: int
    b: str


class TestNamedTuple(Json):
    annotation = Named
    garbage = (b"[1]", b"[1, 2]")

    def values(self):
        return [Named(1, "ü"), Named(2, "")]


class TestFramesByPath(Polars):
    annotation = dict[str, pl.DataFrame]

    def values(self):
        return [{"one": pl.DataFrame({"a": [1]}), "two": pl.DataFrame({"a": ["ü"]})}]

    def same(self, one, other):
        found = {key.rpartition("/")[2]: frame for key, frame in one.items()}
        return found.keys() == other.keys() and all(found[k].equals(other[k]) for k in other)


class TestFramesInOrder(Polars):
    annotation = list[pl.DataFrame]

    def values(self):
        return [[pl.DataFrame({"a": [at]}) for at in range(12)]]

    def same(self, one, other):
        return [frame["a"][0] for frame in one] == [frame["a"][0] for frame in other]


class TestTwoOutputs(CodecConformance):
    annotation = tuple[pl.DataFrame, np.ndarray]
    garbage = ()

    def values(self):
        return [(pl.DataFrame({"a": [1]}), np.arange(3))]

    def same(self, one, other):
        return one[0].equals(other[0]) and np.array_equal(one[1], other[1])


class TestOptional(Polars):
    annotation = pl.DataFrame | None


clew.codec(
    Fraction,
    suffixes=[".fraction"],
    read=lambda file: Fraction(file.read().decode()),
    write=lambda value: str(value).encode(),
)


class TestUsersFunctions(CodecConformance):
    annotation = Fraction

    def values(self):
        return [Fraction(1, 3), Fraction(0)]


class Mesh:
    def __init__(self, points: list[int]) -> None:
        self.points = points


@clew.codec(Mesh, suffixes=[".mesh", ".mesh.gz"])
class Meshes:
    def read(self, file: File) -> Mesh:
        return Mesh([int(one) for one in file.read().decode().split(",") if one])

    def write(self, mesh: Mesh, path: Path) -> None:
        path.write_text(",".join(map(str, mesh.points)))


class TestUsersClass(CodecConformance):
    annotation = Mesh
    garbage = (b"one", b"\xff")

    def values(self):
        return [Mesh([1, 2]), Mesh([])]

    def same(self, one, other):
        return one.points == other.points
