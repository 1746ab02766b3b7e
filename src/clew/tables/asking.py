"""A query over tables: what it names, what stands behind the names, its answer.

Knows files and databases that it is given; which commits the files are of, it is not told. Also
what a worker process runs, so that a query never runs in the process of a server.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol

from clew.base.errors import ClewError, Invalid, NotFound
from clew.repos import File
from clew.store import Store
from clew.tables import foreign
from clew.tables.sql import Limits, Reference, Supply, answer, understand
from clew.tables.tabular import TABULAR, Reading, write_rows

Name = tuple[str, ...]


class Query:
    """One SELECT. Understood when it is made; :meth:`give` each reference its files, then ask.

    ``attached`` are names of sources outside: a database (a SQLite file, ``postgresql://…``,
    ``mysql://…``), a file, or a directory of files. What is read of them is read when asked.

    Raises:
        Invalid: ``sql.syntax``, ``sql.not_select``, ``sql.one_statement``, ``sql.attach_name``.
        Denied: ``sql.function``.
    """

    ENTRY: ClassVar = "clew.tables.asking:work"
    """What a pool of processes calls with :meth:`payload`."""

    def __init__(self, text: str, attached: Mapping[str, str] | None = None) -> None:
        self.text = text
        self._question = understand(text)
        self._attached = {_plain(name): source for name, source in (attached or {}).items()}
        self._files: dict[Name, Sequence[File]] = {}

    @property
    def references(self) -> list[Reference]:
        """The tables that the query reads, but for attached ones."""
        return [one for one in self._question.references if not self._is_attached(one)]

    def give(self, reference: Reference, files: Sequence[File]) -> None:
        """Let a reference mean the tables in these files, one below the other.

        Files that hold no table are left out; ``.json`` too where there is anything else.

        Raises:
            Invalid: ``sql.no_table`` where none is left.
        """
        some = [file for file in files if file.suffix in TABULAR]
        if len(files) > 1:
            some = [file for file in some if file.suffix != ".json"] or some
        if not some:
            raise Invalid(
                "sql.no_table",
                f"There is no file with a table behind {'.'.join(reference.parts)}.",
                hint=f"Tables are read from {', '.join(sorted(TABULAR))} files.",
            )
        self._files[reference.stands] = some

    @contextmanager
    def rows(self, **limits: Any) -> Iterator[Any]:
        """The answer as an Arrow RecordBatchReader, good inside the block.

        ``limits``: see :class:`clew.tables.sql.Limits`.

        Raises:
            Invalid: ``sql.failed``, ``file.unreadable``, ``files.differ``.
            Unavailable: ``sql.timeout``, ``sql.memory``, ``sql.attach``.
            NotFound: ``sql.table_unknown`` of an attached source.
            Corrupt: where the store finds that what it reads is not what was stored.
        """
        for one in self.references:
            if one.stands not in self._files:
                raise NotFound(
                    "sql.table_unknown",
                    f"There is no table {'.'.join(one.parts)}.",
                    hint="`clew ls` lists the repos; --attach names what is outside.",
                )
        reading = Reading()
        supplies = [
            Supply(name=name, tables=reading.tables(some)) for name, some in self._files.items()
        ]
        supplies += [
            self._outside(one, reading)
            for one in self._question.references
            if self._is_attached(one)
        ]
        try:
            with answer(self._question, supplies, Limits(**limits)) as reader:
                yield reader
        except ClewError:
            if reading.trouble is not None:
                raise reading.trouble from None
            raise

    def to_file(self, target: Path, **limits: Any) -> int:
        """The answer as a file in the format of its suffix; how many rows it has.

        Raises Invalid ``sql.format``, and what :meth:`rows` raises.
        """
        with self.rows(**limits) as reader:
            return write_rows(reader, target)

    def payload(self, store: str, target: Path, **limits: Any) -> dict[str, object]:
        """What :func:`work` is told; ``store`` is its address. What is attached does not travel."""
        files = [
            {"name": list(name), "files": [[one.path, one.digest, one.size] for one in some]}
            for name, some in self._files.items()
        ]
        return {
            "store": store,
            "query": self.text,
            "files": files,
            "target": str(target),
            "limits": limits,
        }

    def _is_attached(self, reference: Reference) -> bool:
        return reference.parts[0].lower() in self._attached

    def _outside(self, reference: Reference, reading: Reading) -> Supply:
        parts = reference.parts
        source = self._attached[parts[0].lower()]
        if not foreign.is_database(source):
            return Supply(name=reference.stands, tables=reading.tables(_on_disk(source, parts)))
        if len(parts) == 1:
            raise Invalid(
                "sql.attached_table",
                f"{parts[0]} is a database, not a table.",
                hint=f"Name a table in it: {parts[0]}.TABLE",
            )
        schema = parts[1] if len(parts) > 2 else None
        columns = self._question.columns
        table = foreign.read_table(source, schema, parts[-1], columns)
        return Supply(name=reference.stands, tables=[table], database=True)


class Scratch(Protocol):
    """What a worker says of a call."""

    @property
    def scratch(self) -> Path:
        """A directory that goes when the call ends."""
        ...


def work(payload: dict[str, Any], context: Scratch) -> int:
    """Answer a query in this process, into the file that is named; how many rows there are."""
    store = _opened(payload["store"])
    query = Query(payload["query"])
    for one in payload["files"]:
        query._files[tuple(one["name"])] = [
            File.of(store, path, digest, size) for path, digest, size in one["files"]
        ]
    return query.to_file(Path(payload["target"]), spill=context.scratch, **payload["limits"])


@functools.lru_cache(1)
def _opened(address: str) -> Store:
    return Store.attach(address)


def _plain(name: str) -> str:
    if not name.isidentifier():
        raise Invalid(
            "sql.attach_name",
            f"{name!r} cannot be the name of an attached source.",
            hint="Use letters, digits and _: --attach name=SOURCE",
        )
    return name.lower()


def _on_disk(source: str, parts: Name) -> list[File]:
    """The files of a table outside: a file itself, a directory whole, or ``name.stem`` of one."""
    place = Path(source)
    if place.is_file():
        found = [place]
    elif place.is_dir():
        stem = parts[-1] if len(parts) > 1 else ""
        found = [
            file
            for file in sorted(place.rglob("*"))
            if file.suffix.lower() in TABULAR and stem.lower() in {"", file.stem.lower()}
        ]
    else:
        raise NotFound("file.missing", f"There is no file {source}.", hint="Check --attach.")
    if not found:
        raise NotFound(
            "sql.table_unknown",
            f"There is no file with a table {parts[-1]} in {source}.",
            hint=f"Tables are read from {', '.join(sorted(TABULAR))} files.",
        )
    return [File.on_disk(one) for one in found]
