"""Rows as a request of the Open Inference Protocol, and its answer as values for each row.

Knows plain values alone; who is asked, and how, is for others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from clew.base.errors import Invalid
from clew.base.iso import iso_text
from clew.base.rows import Plain


def request_of(inputs: Sequence[Mapping[str, Any]], rows: Plain) -> bytes:
    """The body that asks for ``rows``; ``inputs`` as the metadata of the model describes them.

    Raises:
        Invalid: ``predict.rows``.
    """
    if len(inputs) == 1 and not isinstance(rows[0], Mapping):
        shape = [len(rows), len(rows[0])]
        flat = [value for row in rows for value in row]
        tensors = [{**inputs[0], "shape": shape, "data": flat}]
    elif all(isinstance(row, Mapping) for row in rows):
        tensors = [_column(one, rows) for one in inputs]
        known = {one["name"] for one in inputs}
        strange = sorted({str(name) for row in rows for name in row} - known)
        if strange:
            raise Invalid(
                "predict.rows",
                f"The model has no input {', '.join(strange)}.",
                hint=f"Its inputs are {', '.join(sorted(known))}.",
            )
    else:
        raise Invalid(
            "predict.rows",
            "This model takes rows with names.",
            hint='Write [{"column": value, …}].',
        )
    return json.dumps({"inputs": tensors}, default=_plain).encode()


def _plain(value: object) -> str | None:
    """What JSON has no form for, as text; None for what stands in pandas for a missing value."""
    if type(value).__name__ in {"NaTType", "NAType"}:
        return None
    return iso_text(value) if isinstance(value, timedelta) else str(value)


def _column(one: Mapping[str, Any], rows: Sequence[Any]) -> dict[str, Any]:
    missing = [number for number, row in enumerate(rows) if one["name"] not in row]
    if missing:
        raise Invalid(
            "predict.rows",
            f"Row {missing[0]} has no {one['name']}.",
            hint="Give every input of the model; null stands for a missing value.",
        )
    return {**one, "shape": [len(rows)], "data": [row[one["name"]] for row in rows]}


def outputs_of(outputs: Sequence[Mapping[str, Any]]) -> dict[str, list[object]]:
    """Output → one value (or list of values) a row."""
    return {one["name"]: _by_row(one) for one in outputs}


def _by_row(output: Mapping[str, Any]) -> list[object]:
    data, shape = output["data"], output["shape"]
    if len(shape) < 2 or isinstance(data[0], list):
        return list(data)
    width = shape[1]
    return [data[at : at + width] for at in range(0, len(data), width)]


def classes_of(outputs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Output → the names of the classes that its values are of."""
    told = {one["name"]: one.get("parameters", {}).get("clew-classes") for one in outputs}
    return {name: json.loads(classes) for name, classes in told.items() if classes}
