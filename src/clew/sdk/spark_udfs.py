"""A model version as a function of Spark's columns.

Knows Spark's Arrow functions. The files of the model travel with the function, so that executors
need not reach the workspace; each executor process loads them once, by their digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from msgspec import Struct

from clew.base.errors import Corrupt, Unavailable

_KINDS = {"text": "string", "whole": "bigint", "truth": "boolean", "number": "double"}


class Carried(Struct, frozen=True, kw_only=True):
    """What goes to executors: the files that loading reads, with their digest.

    Of equal digest, equal files: that is what a loaded model is kept by.
    """

    files: Mapping[str, bytes]
    name: str
    digest: str

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Carried) and other.digest == self.digest


def carried(files: Mapping[str, bytes], name: str) -> Carried:
    """Files with their digest."""
    return Carried(files=dict(files), name=name, digest=_digest(files))


def _digest(files: Mapping[str, bytes]) -> str:
    whole = hashlib.sha256()
    for path, content in sorted(files.items()):
        whole.update(f"{path}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()


def spark_function(told: Carried, kind: str, answers: Callable[[Carried, list[Any]], Any]) -> Any:
    """A function of Spark's columns.

    Args:
        told: The model.
        kind: Of its answers: number, whole, text or truth.
        answers: Called in executors with one Arrow array a column; gives one.

    Raises:
        Unavailable: ``extra.missing`` without Spark.
    """
    try:
        from pyspark.sql.functions import arrow_udf  # noqa: PLC0415 - an extra
    except ImportError:
        raise Unavailable(
            "extra.missing",
            "A function of Spark needs pyspark 4.1 or newer, which is not installed.",
            hint='Install it: pip install "clew[spark]"',
        ) from None

    def predict(batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            yield answers(told, list(batch) if isinstance(batch, tuple) else [batch])

    array, several, stream = import_module("pyarrow").Array, _plain(tuple), _plain(Iterator)
    predict.__annotations__ = {  # by which Spark knows of what kind it is
        "batches": stream[several[array, ...]],
        "return": stream[array],
    }
    return arrow_udf(predict, _KINDS[kind])


def _plain(generic: Any) -> Any:
    """A generic type as a value: what it is of is known only here."""
    return generic


def column_of(function: Any, names: list[str]) -> Any:
    """A function applied to columns."""
    from pyspark.sql.functions import col  # noqa: PLC0415 - an extra

    return function(*[col(f"`{name}`") for name in names])


class _Entry(Struct, frozen=True):
    digest: str


class FilesOf:
    """Carried files: what loading reads. Raises Corrupt ``udf.damaged``."""

    def __init__(self, told: Carried) -> None:
        if _digest(told.files) != told.digest:
            raise Corrupt(
                "udf.damaged",
                f"The files of {told.name} came to this executor with other bytes.",
                hint="Make the function again: clew.udf(...)",
            )
        self._files = told.files

    def get(self, tree: str, path: str) -> _Entry | None:  # noqa: ARG002 - there is one tree
        """The entry of a file, or None."""
        return _Entry(path) if path in self._files else None

    def read(self, digest: str) -> bytes:
        """The bytes of a file."""
        return self._files[digest]


@cache
def once(make: Callable[[Carried], Any], told: Carried) -> Any:
    """What ``make`` makes of carried files, once a process."""
    return make(told)
