"""Queries over commits: what the names in them mean here, and where they are carried out.

Knows repos and refs; what SQL is, the room of tables knows. In a server a query runs in a process
of its own, with a limit of memory and of time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from clew.base.address import Address, parse_address
from clew.base.errors import Denied, Invalid, NotFound, Unavailable
from clew.base.records import Commit
from clew.compute import Call
from clew.tables import Query
from clew.workspace.rooms import Rooms

if TYPE_CHECKING:
    import pyarrow as pa

SERVED_TIMEOUT_S = 120.0
SERVED_MEMORY = 1 << 30
_WORKER_MEMORY = 3 << 30
Attached = Mapping[str, str] | None


def table(rooms: Rooms, text: str, attach: Attached, *, served: bool) -> pa.Table:
    """The answer of a query as an Arrow table."""
    query, _ = prepare(rooms, text, attach)
    with _spill(rooms) as scratch:
        if not served:
            with query.rows(spill=scratch) as reader:
                return reader.read_all()
        file = scratch / "answer.arrow"
        _in_worker(rooms, query, file)
        return read_file(file)


def to_file(rooms: Rooms, text: str, target: Path, attach: Attached, *, served: bool) -> list[str]:
    """The answer of a query as a file; the ids of the commits that it read."""
    query, commits = prepare(rooms, text, attach)
    if served:
        _in_worker(rooms, query, target)
        return commits
    with _spill(rooms) as scratch:
        query.to_file(target, spill=scratch)
    return commits


def into(
    rooms: Rooms,
    text: str,
    address: str,
    attach: Attached,
    *,
    message: str,
    author: str,
    served: bool,
) -> Commit:
    """Commit the answer of a query as one file; its provenance are the commits that it read."""
    place = parse_address(address)
    _check_target(rooms, place, address)
    with _spill(rooms) as scratch:
        file = scratch / f"answer{Path(place.path).suffix}"
        commits = to_file(rooms, text, file, attach, served=served)
        return rooms.repos.commit(
            place.repo,
            {place.path: file},
            branch=place.ref,
            message=message or " ".join(text.split())[:200],
            author=author,
            provenance=commits,
        )


def prepare(rooms: Rooms, text: str, attach: Attached) -> tuple[Query, list[str]]:
    """A query whose every name has its files, and the ids of the commits that these are of.

    Raises:
        NotFound: ``sql.table_unknown``, ``ref.unknown``, ``file.unknown``.
        Invalid: ``sql.ambiguous``, ``sql.no_table``, and what a query raises that is not right.
        Denied: ``sql.function``.
    """
    query = Query(text, attach)
    names = [repo.name for repo in rooms.repos.list()] if query.references else []
    commits: dict[str, None] = {}
    for reference in query.references:
        place = _place(reference.parts, reference.version, names)
        commit = rooms.repos.resolve(replace(place, path="/"))
        query.give(reference, rooms.repos.pick(commit, place.path))
        commits[commit.id] = None
    return query, list(commits)


def _place(parts: tuple[str, ...], version: str, names: list[str]) -> Address:
    """What a name means: ``repo``, ``project.repo``, or an address in one piece."""
    text = "/".join(parts) if len(parts) == 2 else parts[0]
    head, colon, path = text.partition(":")
    repo, at, ref = head.partition("@")
    if len(parts) > 2:
        raise _unknown(".".join(parts), names)
    found = _repo(repo, names)
    if version and at:
        raise Invalid(
            "sql.version",
            f"{text!r} has a version already.",
            hint="Write either repo@ref or AT (VERSION => 'ref').",
        )
    ref = version or ref or "main"
    return parse_address(f"{found}@{ref}{colon}{path}")


def _repo(name: str, names: list[str]) -> str:
    if name in names:
        return name
    short = [known for known in names if known.rpartition("/")[2].lower() == name.lower()]
    same = [known for known in names if known.lower() == name.lower()]
    found = same or short
    if len(found) == 1:
        return found[0]
    if found:
        raise Invalid(
            "sql.ambiguous",
            f"{name} may be {' or '.join(found)}.",
            hint=f'Name it in full, in double quotes: "{found[0]}"',
        )
    raise _unknown(name, names)


def _unknown(name: str, names: list[str]) -> NotFound:
    words = {known: known for known in names} | {
        known.rpartition("/")[2]: known for known in names if "/" in known
    }
    near = dict.fromkeys(words[word] for word in get_close_matches(name, words, 3, 0.5))
    shown = " or ".join(f'"{known}"' for known in near)
    return NotFound(
        "sql.table_unknown",
        f"There is no repo {name} that could be a table.",
        hint=f"Did you mean {shown}?" if near else "`clew ls` lists the repos.",
    )


def _check_target(rooms: Rooms, place: Address, address: str) -> None:
    info = rooms.repos.get(place.repo)
    if info.kind != "source":
        raise Denied(
            "repo.derived",
            f"{place.repo} is written by Clew (kind: {info.kind}).",
            hint="Commit to a source repo; `clew repos` lists them.",
        )
    if place.path == "/" or place.ancestors:
        raise Invalid(
            "sql.into",
            f"{address} is not the place of a file on a branch.",
            hint="Write --into REPO@branch:/file.parquet",
        )


def _in_worker(rooms: Rooms, query: Query, target: Path) -> None:
    """Have a process of its own write the answer to ``target``."""
    limits = {"memory_bytes": SERVED_MEMORY, "timeout_s": SERVED_TIMEOUT_S}
    call = Call(
        entry=Query.ENTRY,
        payload=query.payload(rooms.store.address, target, **limits),
        label="the query",
        timeout_s=SERVED_TIMEOUT_S + 10,
        memory_bytes=_WORKER_MEMORY,
        environment={"OMP_NUM_THREADS": "2"},
    )
    outcome = rooms.queries.submit(call).result()
    if outcome.error is None:
        return
    if outcome.error.kind in {"timeout", "memory"}:
        raise Unavailable(f"sql.{outcome.error.kind}", outcome.error.message, hint="Ask for less.")
    raise outcome.error.to_error()


@contextmanager
def _spill(rooms: Rooms) -> Iterator[Path]:
    root = rooms.settings.home / "scratch"
    root.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix="sql-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def read_file(file: Path) -> pa.Table:
    """An Arrow file as a table."""
    import pyarrow as pa  # noqa: PLC0415 - heavy, and only where a query was asked

    with pa.OSFile(str(file)) as source:
        return pa.ipc.open_file(source).read_all()
