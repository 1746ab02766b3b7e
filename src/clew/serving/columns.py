"""Records of the spool as columns of the prediction log, one row for each row of a request.

Knows nothing of files: records in, columns out, and back to predictions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct, field

from clew.base.clock import from_us
from clew.base.errors import Invalid
from clew.base.records import Prediction, Signature
from clew.serving import protocol
from clew.serving.contract import Contract, contract_of
from clew.serving.protocol import read_outputs
from clew.serving.spool import Record
from clew.serving.tensors import InputError

FIXED = (
    "id", "row", "at", "endpoint", "revision", "model_version", "global_id", "status",
    "latency_ms", "error",
)  # fmt: skip
IN, OUT = "in.", "out."


class Columns(Struct, dict=True):
    """Columns of one revision. ``at`` is in microseconds; missing values are None."""

    signature: Signature
    values: dict[str, list[object]] = field(default_factory=lambda: {name: [] for name in FIXED})
    rows: int = 0
    ids: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._contract = contract_of(self.signature)

    def add(self, record: Record) -> None:
        """Append the rows of one request."""
        inputs, rows = inputs_of(record, self._contract)
        outputs = outputs_of(record)
        fixed = (
            record.at_us, record.endpoint, record.revision, record.model_version,
            record.global_id, record.status, record.latency_us / 1000, record.error or None,
        )  # fmt: skip
        self.values["id"] += [record.id] * rows
        self.values["row"] += range(rows)
        for name, value in zip(FIXED[2:], fixed, strict=True):
            self.values[name] += [value] * rows
        self._extend({IN + name: values for name, values in inputs.items()}, rows)
        self._extend({OUT + name: values for name, values in outputs.items()}, rows)
        self.rows += rows
        self.ids.append(record.id)
        self._level()

    def _extend(self, columns: dict[str, list[object]], rows: int) -> None:
        for name, values in columns.items():
            column = self.values.get(name)
            if column is None:
                column = self.values[name] = [None] * self.rows
            column += values[:rows]

    def _level(self) -> None:
        """What this request did not have is missing."""
        for column in self.values.values():
            if len(column) < self.rows:
                column += [None] * (self.rows - len(column))


def inputs_of(record: Record, contract: Contract) -> tuple[dict[str, list[object]], int]:
    """Name → one value a row, and the number of rows; nothing and 1 where it was refused."""
    head = None if record.request_head < 0 else record.request_head
    try:
        values, rows = protocol.check(protocol.parse(record.kind, record.request, head), contract)
    except InputError:
        return {}, 1
    return contract.columns(values), rows


def outputs_of(record: Record) -> dict[str, list[object]]:
    """Name → one value a row; nothing where the request failed."""
    if record.status != 200:
        return {}
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
    )


def _named(rows: Sequence[dict[str, object]], prefix: str) -> dict[str, list[object]]:
    names = [name for name in rows[0] if name.startswith(prefix)]
    return {name.removeprefix(prefix): [row[name] for row in rows] for name in names}
