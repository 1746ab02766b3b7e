"""Verifying and reproducing: what was made is made once more, and held against what there is.

Knows which room runs it and which compares; changes nothing but that it tells what it found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any

from clew.base.errors import Invalid, NotFound
from clew.base.limits import check_limit
from clew.base.records import Commit, Job, UndeclaredRead
from clew.base.records.knowing import DatumCheck, FileCheck, Reproduction, Verification
from clew.store import EMPTY_TREE, Entry
from clew.workspace.asking import commit_at
from clew.workspace.file_checks import differences
from clew.workspace.repeating import train_again
from clew.workspace.rooms import Rooms


class Knowing:
    """A part of :class:`clew.workspace.Workspace`."""

    rooms: Rooms
    _author: str

    def verify(
        self, pipeline: str, step: str | None = None, *, sample: int = 20, seed: int = 0
    ) -> Verification:
        """Run some datums that would be skipped, and compare."""
        if sample < 1:
            raise Invalid("verify.sample", f"A sample of {sample} datums is none.", hint="Give 1.")
        rooms, checks, reads = self.rooms, list[DatumCheck](), Counter[tuple[str, str, str]]()
        samples = rooms.pipelines.knowing.samples(pipeline, step, check_limit(sample), seed)
        for name, one in samples:
            for again in rooms.pipelines.knowing.again(one):
                reads.update(again.undeclared)
                check = _check(rooms, name, again)
                checks.append(check)
                with rooms.db.begin() as tx:
                    data = {"verdict": check.verdict, "files": [f.path for f in check.files]}
                    rooms.pipelines.knowing.say(tx, "datum.verified", check.datum, one.row, data)
        verdicts = Counter(check.verdict for check in checks)
        return Verification(
            pipeline=pipeline,
            steps=tuple(name for name, _ in samples),
            seed=seed,
            known=sum(one.known for _, one in samples),
            same=verdicts["same"],
            different=verdicts["different"],
            failed=verdicts["failed"],
            datums=tuple(sorted(checks, key=lambda check: (check.verdict == "same", check.inputs))),
            undeclared=_reads(reads),
        )

    def accept(
        self,
        pipeline: str,
        step: str | None = None,
        *,
        reason: str,
        environment: bool = False,
        undo: bool = False,
    ) -> list[Job]:
        """Say that a change of code changes no result."""
        if not reason.strip() and not undo:
            raise Invalid(
                "accept.reason",
                "A change is accepted with a reason.",
                hint='Say why: clew accept PIPELINE STEP --reason "renamed helpers"',
            )
        return self.rooms.pipelines.accept(
            pipeline, step, reason=reason, by=self._author, environment=environment, undo=undo
        )

    def reproduce(self, ref: str) -> Reproduction:
        """Repeat a job, and compare."""
        rooms = self.rooms
        row = rooms.pipelines.knowing.job(ref, partial(_commit_of, rooms))
        commit = rooms.repos.commit_by_id(row.output)
        if row.kind == "step":
            found = _repeated(rooms, row, commit)
        elif row.kind == "train":
            found = train_again(rooms, row, commit)
        else:
            raise Invalid(
                "reproduce.kind",
                f"Job {row.id} is of the kind {row.kind}, which is not repeated by itself.",
                hint="Reproduce the job of the step before it.",
            )
        with rooms.db.begin() as tx:
            data = {"verdict": found.verdict, "expected": found.expected, "found": found.found}
            rooms.pipelines.knowing.say(tx, "job.reproduced", row.id, row, data)
        return found


def _commit_of(rooms: Rooms, ref: str) -> Commit:
    """The commit of ``repo@ref`` or of an id, also of a version as models name it."""
    try:
        return rooms.repos.commit_by_id(rooms.models.get(ref).commit)
    except NotFound:
        return commit_at(rooms, ref)


def _repeated(rooms: Rooms, row: Any, commit: Commit) -> Reproduction:
    knowing = rooms.pipelines.knowing
    again = knowing.repeat(row)
    same = again.tree == commit.tree
    files = () if same else tuple(differences(rooms, commit.tree, again.tree))
    packages = knowing.packages(row)
    reads = (
        *again.undeclared,
        *((r.kind, r.name, r.where) for r in rooms.pipelines.job(row.id).undeclared),
    )
    clocks = knowing.definition(row).clocks
    verdict = "identical" if same else "failed" if again.errors else "different"
    return Reproduction(
        job=row.id,
        commit=commit.id,
        pipeline=row.pipeline,
        step=row.step,
        kind=row.kind,
        verdict=verdict,
        expected=commit.tree,
        found=again.tree,
        datums=again.datums,
        files=files,
        packages=packages,
        reasons=() if same else tuple(reasons_of(packages, reads, clocks)),
        error="\n\n".join(again.errors[:3]),
    )


def reasons_of(
    packages: Iterable[str], reads: Iterable[tuple[str, str, str]], clocks: Iterable[str]
) -> Iterable[str]:
    """What may explain that a result is another one."""
    yield from (f"another version: {one}" for one in packages)
    for kind, name, where in dict.fromkeys(reads):
        told = UndeclaredRead(kind=kind, name=name, where=where).told
        yield f"it reads {told}"
    yield from (f"it asks what time it is: {one}" for one in clocks)


def _check(rooms: Rooms, step: str, again: Any) -> DatumCheck:
    verdict = (
        "failed" if again.state != "done" else "same" if again.old == again.new else "different"
    )
    files: tuple[FileCheck, ...] = ()
    if verdict == "different":
        with rooms.store.writer() as writer:
            old, new = (
                writer.tree(
                    EMPTY_TREE,
                    [
                        Entry(path=path, digest=d, size_bytes=size)
                        for path, (d, size) in side.items()
                    ],
                )
                for side in (again.old, again.new)
            )
        files = tuple(differences(rooms, old, new))
    return DatumCheck(
        datum=again.id,
        step=step,
        job=again.job,
        inputs=tuple(f"{repo}:{path}" for repo, path, _ in again.unit.files()),
        verdict=verdict,
        files=files,
        error=again.error,
    )


def _reads(found: Counter[tuple[str, str, str]]) -> tuple[UndeclaredRead, ...]:
    return tuple(
        UndeclaredRead(kind=kind, name=name, where=where, datums=count)
        for (kind, name, where), count in sorted(found.items())
    )
