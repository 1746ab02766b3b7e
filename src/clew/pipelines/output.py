"""The output of a job: the union of its datums' files, made from the output before it.

Knows trees of the store only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from clew.base.errors import Conflict
from clew.pipelines.work import Known, Work
from clew.store import Entry, Store, Writer


@dataclass(frozen=True)
class Made:
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


def build(
    store: Store, writer: Writer, work: Work, made: list[Made], who: Callable[[str], str]
) -> tuple[str, str]:
    """The trees of a finished job: its output, and its quarantine.

    ``who`` names the datum that a path of the output before came from.

    Raises:
        Conflict: ``output.clash`` where two datums wrote one path, naming both;
            ``tree.file_and_directory``.
    """
    gone = [made_by(known) for known in work.gone]
    new = [*map(made_by, work.known), *made]
    owners = _owners(new)
    taken_out = {entry.path for one in gone for entry in one.outputs}
    for path, owner in owners.items():
        if path not in taken_out and store.get(work.tree, path) is not None:
            raise _clash(path, who(path), owner)
    tree = writer.tree(work.tree, [e for one in new for e in one.outputs], taken_out)
    aside = writer.tree(
        work.aside,
        [entry for one in new for entry in one.aside],
        {entry.path for one in gone for entry in one.aside},
    )
    return tree, aside


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
