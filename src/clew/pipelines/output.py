"""The output of a job: the union of its datums' files, made from the output before it.

Knows trees of the store only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct

from clew.base.errors import Conflict
from clew.pipelines.work import Known, Work
from clew.store import Entry, Writer

AT_ONCE = 4000
"""So many files are held until they go into the tree."""


class Made(Struct, frozen=True):
    """Files of one datum, by which it may be named."""

    label: str
    outputs: list[Entry]
    aside: list[Entry]


def made_by(known: Known) -> Made:
    """The files of a datum that was done before."""
    return Made(known.unit.label(), entries_of(known.outputs), entries_of(known.aside))


def entries_of(files: Iterable[Iterable[object]]) -> list[Entry]:
    """Entries of [path, digest, size] as rows keep them."""
    return [
        Entry(path=str(path), digest=str(digest), size_bytes=int(str(size)))
        for path, digest, size in files
    ]


class Output:
    """The trees of a job, made as its datums come: some thousand files at a time.

    ``who`` names the datum, other than one of a label, that has a path of the output so far.
    """

    def __init__(self, writer: Writer, work: Work, who: Callable[[str, str], str]) -> None:
        self._writer = writer
        self._who = who
        gone = [made_by(known) for known in work.gone]
        self._tree = writer.tree(work.tree, (), [e.path for one in gone for e in one.outputs])
        self._aside = writer.tree(work.aside, (), [e.path for one in gone for e in one.aside])
        self._made: list[Made] = []
        self._files = 0

    def add(self, made: Made) -> None:
        """Take the files of one more datum. Raises what :meth:`finish` raises."""
        self._made.append(made)
        self._files += len(made.outputs) + len(made.aside)
        if self._files >= AT_ONCE:
            self._apply()

    def finish(self) -> tuple[str, str]:
        """The trees, not flushed yet: the output, and its quarantine.

        Raises:
            Conflict: ``output.clash`` where two datums wrote one path, naming both;
                ``tree.file_and_directory``.
        """
        self._apply()
        return self._tree, self._aside

    def _apply(self) -> None:
        made, self._made, self._files = self._made, [], 0
        owners = _owners(made)
        before, tree = self._tree, self._writer
        self._tree = tree.tree(before, [entry for one in made for entry in one.outputs])
        if tree.summary(self._tree).files < tree.summary(before).files + len(owners):
            path = next(path for path in owners if tree.get(before, path) is not None)
            raise _clash(path, self._who(path, owners[path]), owners[path])
        self._aside = tree.tree(self._aside, [entry for one in made for entry in one.aside])


def _owners(made: list[Made]) -> dict[str, str]:
    owners: dict[str, str] = {}
    for one in made:
        for entry in one.outputs:
            if entry.path in owners:
                raise _clash(entry.path, owners[entry.path], one.label)
            owners[entry.path] = one.label
    return owners


def _clash(path: str, first: str, second: str) -> Conflict:
    return Conflict(
        "output.clash",
        f"Two datums wrote {path}: {first} and {second}.",
        hint="Give inputs different names, or return files whose names differ.",
    )
