"""Changes to several repos that become one: collected here, committed together at the end.

Knows the shape of the verbs; nothing of where the workspace is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from msgspec import Struct, field

from clew.base.errors import Invalid
from clew.base.records import Commit

Source = bytes | Path | BinaryIO


class PutPart(Struct, frozen=True, kw_only=True):
    """What a change does to one branch of one repo: ``delete`` first, then ``files``."""

    repo: str
    branch: str = "main"
    files: Mapping[str, Source] = field(default_factory=dict)
    delete: Sequence[str] = ()
    replace: bool = False


PARTS = "parts"
"""The name under which the list of the parts travels among their files."""


def pack_parts(parts: Sequence[PutPart]) -> dict[str, Source]:
    """All files of several parts as those of one archive: ``N/path``, and the list of the parts."""
    told = [
        {"repo": p.repo, "branch": p.branch, "delete": list(p.delete), "replace": p.replace}
        for p in parts
    ]
    files: dict[str, Source] = {PARTS: json.dumps(told).encode()}
    for number, part in enumerate(parts):
        files |= {f"{number}/{path}": source for path, source in part.files.items()}
    return files


def unpack_parts(files: Mapping[str, BinaryIO]) -> list[PutPart]:
    """The parts again. Raises Invalid ``archive.parts``."""
    try:
        told = json.loads(files[PARTS].read())
        puts: list[dict[str, Source]] = [{} for _ in told]
        for name, source in files.items():
            if name != PARTS:
                number, _, path = name.partition("/")
                puts[int(number)][path] = source
        return [
            PutPart(
                repo=str(one["repo"]),
                branch=str(one.get("branch", "main")),
                files=files_of_one,
                delete=[str(path) for path in one.get("delete", ())],
                replace=bool(one.get("replace", False)),
            )
            for one, files_of_one in zip(told, puts, strict=True)
        ]
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise Invalid(
            "archive.parts",
            f"The upload is not a transaction: {type(error).__name__} {error}.",
            hint='Its first file is "parts", a JSON list of {"repo", "branch", "delete", '
            '"replace"}; the others are named N/path, N counting that list from 0.',
        ) from None


class Transaction:
    """A change of several repos in the making. Owned by one thread.

    As a context manager it commits at the end of the block, all under one global ID or nothing;
    an error that leaves the block forgets it. ``commits`` are there after the block.
    """

    def __init__(self, commit: Callable[[Sequence[PutPart]], list[Commit]]) -> None:
        self._commit = commit
        self._parts: dict[tuple[str, str], tuple[dict[str, Source], list[str], bool]] = {}
        self.commits: list[Commit] = []

    def put(
        self,
        repo: str,
        files: Mapping[str, Source],
        *,
        branch: str = "main",
        replace: bool = False,
    ) -> None:
        """Files of a branch; of two at one path the later counts."""
        puts, _, before = self._part(repo, branch)
        puts.update(files)
        self._parts[repo, branch] = (puts, self._parts[repo, branch][1], before or replace)

    def delete(self, repo: str, paths: str | Sequence[str], *, branch: str = "main") -> None:
        """Paths of a branch that go, before what is put there."""
        self._part(repo, branch)[1].extend([paths] if isinstance(paths, str) else paths)

    def __enter__(self) -> Transaction:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            return
        if not self._parts:
            raise Invalid(
                "put.nothing",
                "There is nothing to commit: the transaction was left empty.",
                hint="Call put or delete inside the block.",
            )
        self.commits = self._commit(
            [
                PutPart(repo=repo, branch=branch, files=puts, delete=gone, replace=replace)
                for (repo, branch), (puts, gone, replace) in self._parts.items()
            ]
        )

    def _part(self, repo: str, branch: str) -> tuple[dict[str, Source], list[str], bool]:
        return self._parts.setdefault((repo, branch), ({}, [], False))
