"""Records of the spool as columns of the log: a matrix is logged as its JSON would be."""

from __future__ import annotations

import asyncio
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from clew.base.records import Column, Signature
from clew.serving import parquet
from clew.serving.columns import Columns, inputs_of, prediction_of
from clew.serving.contract import contract_of
from clew.serving.dataplane import DataPlane, Route
from clew.serving.runtime import Identity, Runtime
from clew.serving.spool import Record, Spool, records, segments

NAMES = ("a", "b", "c")
MATRIX = Signature(
    frame="numpy", inputs=(Column(name="x", type="double"),), width=3, task="regression"
)
FRAME = Signature(
    frame="polars",
    inputs=tuple(Column(name=name, type="double") for name in NAMES),
    width=3,
    task="regression",
)


def record(number: int, rows: int, *, matrix: bool, status: int = 200, kind: str = "v2") -> Record:
    data = np.arange(rows * 3, dtype=np.float64).reshape(rows, 3) + number / 7
    flat = data.ravel().tolist()
    tensor = {"name": "x", "datatype": "FP64", "shape": [rows, 3], "data": flat}
    shares = {"name": "share", "datatype": "FP64", "shape": [rows, 2], "data": flat[: rows * 2]}
    value = {"name": "value", "datatype": "FP64", "shape": [rows], "data": flat[:rows]}
    answer = json.dumps({"outputs": [value, shares]}).encode() if status == 200 else b""
    return Record(
        f"id{number:04}", "e", "r", "m/e:1", "g", 1_700_000_000_000_000 + number, 1500, status,
        "matrix" if matrix else kind, rows if matrix else -1,
        data.tobytes() if matrix else json.dumps({"inputs": [tensor]}).encode(),
        -1, answer, "" if status == 200 else "The model refused the input.",
    )  # fmt: skip


def table(signature: Signature, records: list[Record]):
    columns = Columns(signature)
    columns.add_all(records)
    found = pq.read_table(io.BytesIO(parquet.write(columns)))
    return found.sort_by([("id", "ascending"), ("row", "ascending")])


@pytest.mark.parametrize("signature", [MATRIX, FRAME], ids=["matrix", "frame"])
def test_matrices_and_json_give_the_same_file_in_any_mixture(signature):
    rows = [1, 3, 1, 2, 1]
    for mask in range(2**5):
        mixed = [record(n, rows[n], matrix=bool(mask >> n & 1)) for n in range(5)]
        assert table(signature, mixed) == table(
            signature, [record(n, rows[n], matrix=False) for n in range(5)]
        )


@pytest.mark.parametrize("signature", [MATRIX, FRAME], ids=["matrix", "frame"])
def test_a_refused_request_has_no_values_beside_matrices(signature):
    refused = record(0, 1, matrix=False, status=400)
    refused = Record(*(b"{" if name == "request" else getattr(refused, name)
                       for name in Record.__struct_fields__))  # fmt: skip
    found = table(signature, [refused, record(1, 2, matrix=True)])
    assert found.column("status").to_pylist() == [400, 200, 200]
    assert found.column("error").to_pylist()[1:] == [None, None]
    names = ["in.x"] if signature is MATRIX else [f"in.{name}" for name in NAMES]
    for name in [*names, "out.value", "out.share"]:
        assert found.column(name).to_pylist()[0] is None
        assert None not in found.column(name).to_pylist()[1:]


@pytest.mark.parametrize("signature", [MATRIX, FRAME], ids=["matrix", "frame"])
def test_a_matrix_that_failed_in_the_model_is_logged_with_what_was_sent(signature):
    found = table(signature, [record(0, 1, matrix=True, status=500)])
    name = "in.x" if signature is MATRIX else "in.b"
    assert found.column(name).to_pylist() == [[0.0, 1.0, 2.0] if signature is MATRIX else 1.0]
    assert "out.value" not in found.column_names


@pytest.mark.parametrize("signature", [MATRIX, FRAME], ids=["matrix", "frame"])
def test_people_see_a_matrix_in_the_spool_as_they_see_its_json(signature):
    plain, other = (prediction_of(record(4, 2, matrix=one), signature) for one in (True, False))
    assert plain == other


class Writes:
    """A model that writes to what it is given, as code of a user may."""

    platform = "test"
    signature = FRAME

    def predict(self, data):
        values = np.column_stack(list(data.values())) if isinstance(data, dict) else data
        found = values.sum(axis=1)
        if values.flags.writeable:
            values[:] = -1.0
        return {"value": found}


@pytest.mark.parametrize("redact", [frozenset(), frozenset({"b"})], ids=["whole", "redacted"])
def test_the_log_has_what_was_sent_whatever_a_model_does_to_it(tmp_path, redact):
    async def ask() -> None:
        spool = Spool(tmp_path)
        plane = DataPlane(asyncio.get_running_loop(), spool)
        identity = Identity(
            endpoint="e", revision="r", number=1, model_version="m", version="1", global_id="g"
        )
        plane.routes = {"e": Route("e", [(Runtime(identity, Writes()), 100.0)], redact=redact)}
        body = record(3, 1, matrix=False).request
        answers = [await plane.infer("e", body)]
        answers += await asyncio.gather(plane.infer("e", body), plane.infer("e", body))
        assert [one.status for one in answers] == [200] * 3
        plane.close()
        spool.close()

    asyncio.run(ask())
    found = [one for each in segments(tmp_path) for one, _ in records(each.read(0, 1 << 20))]
    sent = dict(zip(NAMES, (np.arange(3) + 3 / 7).tolist(), strict=True))
    for one in found:
        inputs, _ = inputs_of(one, contract_of(FRAME))
        assert inputs == {name: [sent[name]] for name in NAMES if name not in redact}
    assert len(found) == 3
