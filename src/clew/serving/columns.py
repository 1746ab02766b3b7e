"""Records of the spool as columns of the prediction log, one row for each row of a request.

Knows nothing of files: records in, columns out, and back to predictions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson
from msgspec import Struct, field

from clew.base.clock import from_us, to_us
from clew.base.errors import Invalid
from clew.base.records import Prediction, Signature
from clew.serving import answers, protocol
from clew.serving.contract import Contract, MatrixContract, contract_of
from clew.serving.protocol import read_outputs
from clew.serving.spool import KEPT, MATRIX, Record
from clew.serving.tensors import Array, InputError

FIXED = (
    "id", "row", "at", "endpoint", "revision", "model_version", "global_id", "status",
    "latency_ms", "error", "arm", "propensity", "unit", "copy_of", "part_of", "parts",
)  # fmt: skip
IN, OUT = "in.", "out."


class Columns(Struct, dict=True):
    """Columns of one revision. ``at`` is in microseconds; missing values are None.

    ``last``: of some columns the last rows, which ``values`` does not have, as an array: one value
    a row, or one row of a matrix.
    """

    signature: Signature
    values: dict[str, list[object]] = field(default_factory=lambda: {name: [] for name in FIXED})
    rows: int = 0
    ids: list[str] = field(default_factory=list)
    last: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._contract = contract_of(self.signature)
        self._inputs = {IN + one.name: at for at, one in enumerate(self.signature.inputs)}
        self._counts: list[int] = []

    def add_all(self, records: Sequence[Record]) -> None:
        """Append the rows of requests; once, since matrices are the last of them."""
        others = [record for record in records if record.kind != MATRIX]
        for record in others:
            inputs, rows = inputs_of(record, self._contract)
            self._extend({IN + name: values for name, values in inputs.items()}, rows)
            self._add_outputs(record, rows)
        plain = [record for record in records if record.kind == MATRIX]
        failed = [record for record in plain if record.status != 200]
        answered = [record for record in plain if record.status == 200]
        for record in failed:
            self._add_outputs(record, record.request_head)
        self._add_answers(answered)
        self._add_matrices([*failed, *answered])
        self._add_fixed([*others, *failed, *answered])
        for name, column in self.values.items():  # what a request did not have is missing
            rows = self.rows - len(self.last.get(name, ()))
            if len(column) < rows:
                column += [None] * (rows - len(column))

    def place(self, name: str) -> tuple[int, int]:
        """Where a column stands in a file: what is fixed, inputs as the model takes them, outputs
        as they come.
        """
        if name in FIXED:
            return 0, FIXED.index(name)
        if name.startswith(IN):
            return 1, self._inputs.get(name, len(self._inputs))
        return 2, 0

    def _add_matrices(self, records: Sequence[Record]) -> None:
        """The inputs of the last rows."""
        if not records:
            return
        whole = np.frombuffer(b"".join([record.request for record in records]))
        block = whole.reshape(sum([record.request_head for record in records]), -1)
        if isinstance(self._contract, MatrixContract):
            self.last[IN + self._contract.name] = block
        else:
            rules = enumerate(self._contract.rules)
            self.last |= {IN + rule.name: block[:, at] for at, rule in rules}

    def _add_answers(self, records: Sequence[Record]) -> None:
        """The outputs of the last rows: at once where they are numbers of one shape."""
        known = {name for name, values in self.values.items() if values}
        found = answers.columns_of(records) if records else None
        if found is None or any(OUT + name in known for name in found):
            for record in records:
                self._add_outputs(record, record.request_head)
            return
        self.last |= {OUT + name: values for name, values in found.items()}
        counts = [record.request_head for record in records]
        self.rows += sum(counts)
        self._counts += counts

    def _add_outputs(self, record: Record, rows: int) -> None:
        outputs = {OUT + name: values for name, values in outputs_of(record).items()}
        self._extend(outputs, rows)
        self.rows += rows
        self._counts.append(rows)

    def _add_fixed(self, records: Sequence[Record]) -> None:
        """What is the same for all rows of a request."""
        self.ids = [record.id for record in records]
        found: dict[str, list[object]] = {
            "id": [*self.ids],
            "at": [record.at_us for record in records],
            "endpoint": [record.endpoint for record in records],
            "revision": [record.revision for record in records],
            "model_version": [record.model_version for record in records],
            "global_id": [record.global_id for record in records],
            "status": [record.status for record in records],
            "latency_ms": [record.latency_us / 1000 for record in records],
            "error": [record.error or None for record in records],
            "arm": [record.arm for record in records],
            "propensity": [record.propensity for record in records],
            "unit": [record.unit or None for record in records],
            "copy_of": [record.copy_of or None for record in records],
            "part_of": [record.part_of or None for record in records],
            "parts": [" ".join(record.parts) if record.parts else None for record in records],
        }
        self.values["row"] += chain.from_iterable(map(range, self._counts))
        for name, values in found.items():
            if self.rows > len(values):
                pairs = zip(values, self._counts, strict=True)
                values = [value for value, rows in pairs for _ in range(rows)]
            self.values[name] += values

    def _extend(self, columns: dict[str, list[object]], rows: int) -> None:
        """Append the values of the next rows; what was missing before them is filled in."""
        for name, values in columns.items():
            column = self.values.setdefault(name, [])
            if len(column) < self.rows:
                column += [None] * (self.rows - len(column))
            column += values[:rows]


def inputs_of(record: Record, contract: Contract) -> tuple[dict[str, list[object]], int]:
    """Name → one value a row, and the number of rows; nothing and 1 where it was refused."""
    if record.kind == KEPT:
        return _kept(record.request)
    if record.kind == MATRIX:
        matrix = np.frombuffer(record.request).reshape(record.request_head, -1)
        return contract.columns(matrix), len(matrix)
    head = None if record.request_head < 0 else record.request_head
    try:
        values, rows = protocol.check(protocol.parse(record.kind, record.request, head), contract)
    except InputError:
        return {}, 1
    return contract.columns(values), rows


def _kept(data: bytes) -> tuple[dict[str, list[object]], int]:
    """What was kept of a redacted request or answer, and its rows."""
    if not data:
        return {}, 1
    kept = orjson.loads(data)
    return kept["columns"], kept["rows"]


def outputs_of(record: Record) -> dict[str, list[object]]:
    """Name → one value a row; nothing where the request failed."""
    if record.status != 200:
        return {}
    if record.kind == KEPT:
        return _kept(record.answer)[0]
    return read_outputs(record.answer, None if record.answer_head < 0 else record.answer_head)


def prediction_of(record: Record, signature: Signature) -> Prediction:
    """A record of the spool as people see it. A failed one has the output ``error``."""
    inputs, _ = inputs_of(record, contract_of(signature))
    return Prediction(
        id=record.id,
        endpoint=record.endpoint,
        revision=record.revision,
        model_version=record.model_version,
        global_id=record.global_id,
        at=from_us(record.at_us),
        latency_ms=record.latency_us / 1000,
        inputs=inputs,
        outputs=outputs_of(record) if record.status == 200 else {"error": [record.error]},
        arm=record.arm,
        propensity=record.propensity,
        copy_of=record.copy_of,
        part_of=record.part_of,
        parts=record.parts,
    )


def predictions_of(rows: Iterable[dict[str, object]]) -> list[Prediction]:
    """Rows of the log as predictions, in the order of their first row."""
    by_id: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        by_id.setdefault(str(row["id"]), []).append(row)
    return [_prediction(group) for group in by_id.values()]


def _prediction(rows: Sequence[dict[str, object]]) -> Prediction:
    first = rows[0]
    at, latency_ms = first["at"], first["latency_ms"]
    if not isinstance(at, int) or not isinstance(latency_ms, float):
        raise Invalid("log.row", f"The prediction {first['id']} is not as it was written.")
    outputs = _named(rows, OUT) if first["status"] == 200 else {"error": [first["error"]]}
    return Prediction(
        id=str(first["id"]),
        endpoint=str(first["endpoint"]),
        revision=str(first["revision"]),
        model_version=str(first["model_version"]),
        global_id=str(first["global_id"]),
        at=from_us(at),
        latency_ms=latency_ms,
        inputs=_named(rows, IN),
        outputs=outputs,
        arm=str(first.get("arm") or "live"),
        propensity=float(str(first.get("propensity") or 1.0)),
        copy_of=str(first.get("copy_of") or ""),
        part_of=str(first.get("part_of") or ""),
        parts=tuple(str(first.get("parts") or "").split()),
    )


def _named(rows: Sequence[dict[str, object]], prefix: str) -> dict[str, list[object]]:
    names = [name for name in rows[0] if name.startswith(prefix)]
    return {name.removeprefix(prefix): [row[name] for row in rows] for name in names}


class Answered(Struct):
    """What feedback is joined to: who answered a request, how it was chosen, and the outputs."""

    endpoint: str = ""
    revision: str = ""
    model_version: str = ""
    global_id: str = ""
    arm: str = "live"
    propensity: float = 1.0
    unit: str = ""
    at_us: int = 0
    outputs: dict[int, dict[str, object]] = field(default_factory=dict)
    """Row → output → value."""

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Take over a row of the log."""
        self.endpoint, self.revision = row["endpoint"], row["revision"]
        self.model_version, self.global_id = row["model_version"], row["global_id"]
        self.arm, self.propensity = row.get("arm") or "live", row.get("propensity") or 1.0
        self.unit, self.at_us = row.get("unit") or row["id"], to_us(row["at"])
        self.outputs[row["row"]] = {
            name.removeprefix(OUT): value for name, value in row.items() if name.startswith(OUT)
        }


def of_record(record: Record) -> Answered:
    """The same of a record of the spool."""
    columns = outputs_of(record)
    rows = max((len(values) for values in columns.values()), default=1)
    return Answered(
        endpoint=record.endpoint,
        revision=record.revision,
        model_version=record.model_version,
        global_id=record.global_id,
        arm=record.arm,
        propensity=record.propensity,
        unit=record.unit or record.id,
        at_us=record.at_us,
        outputs={at: {name: values[at] for name, values in columns.items()} for at in range(rows)},
    )
