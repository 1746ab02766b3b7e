"""The directories of a program: its inputs, its output, where it works.

Knows the store and no programs. Inputs are copies of what the store has: nothing that a program
does to them reaches the store or another datum.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from clew.base.address import normal_path
from clew.base.errors import Invalid
from clew.store import Store

_READ_ONLY = 0o444

Files = Sequence[tuple[str, str]]
"""Path (``/2013/07.csv``) and digest of each file of an input."""


class _Laid(Struct, frozen=True):
    """What an input's directory holds, and how each file looked when it was written."""

    files: tuple[tuple[str, str], ...]
    seen: Mapping[str, tuple[int, ...]]


class Layout:
    """The directories below ``root``, for one datum after another. Owned by one thread.

    ``inputs/x`` is the input x, ``out`` the output, ``work`` where the program starts and ``tmp``
    its temporary files. An input that is the same for the next datum, and that nobody touched,
    stays as it is.
    """

    def __init__(self, root: Path, store: Store) -> None:
        _remove(root)
        self.root = root
        self._store = store
        self._laid: dict[str, _Laid] = {}

    @property
    def inputs(self) -> Path:
        """The directory with one directory for each input."""
        return self.root / "inputs"

    @property
    def out(self) -> Path:
        """Where the program writes its output."""
        return self.root / "out"

    @property
    def work(self) -> Path:
        """The directory that the program starts in."""
        return self.root / "work"

    @property
    def tmp(self) -> Path:
        """For temporary files."""
        return self.root / "tmp"

    def lay_out(
        self, inputs: Mapping[str, Files], *, pipes: Sequence[str], project: Path, seen_at: str
    ) -> list[tuple[Path, str]]:
        """Make everything ready for a datum; path and digest of each named pipe.

        Files of the project are links in ``work``, which lead to where the program sees it. Raises
        what reading the store raises, and Unavailable ``disk.full``.
        """
        self.clear()
        for one in sorted(project.iterdir()):
            (self.work / one.name).symlink_to(Path(seen_at, one.name))
        for gone in set(self._laid) - set(inputs):
            _remove(self.inputs / gone)
            self._laid.pop(gone, None)
        found: list[tuple[Path, str]] = []
        for name, files in inputs.items():
            if name in pipes:
                found += self._pipes(name, files)
            else:
                self._keep(name, files)
        return found

    def clear(self) -> None:
        """Remove what a datum made, and leave the inputs for the next."""
        for place in (self.out, self.work, self.tmp):
            _empty(place)

    def path(self, name: str, file: str) -> Path:
        """Where a file of an input is."""
        return self.inputs / name / file.lstrip("/")

    def _keep(self, name: str, files: Files) -> None:
        laid = self._laid.get(name)
        if laid is not None and laid.files == tuple(files) and self._untouched(name, laid):
            return
        self._laid.pop(name, None)
        _empty(self.inputs / name)
        for path, digest in files:
            target = self.path(name, path)
            self._store.export(digest, target)
            target.chmod(_READ_ONLY)
        seen = dict(_looks(self.inputs / name))
        self._laid[name] = _Laid(tuple(files), seen)

    def _pipes(self, name: str, files: Files) -> Iterator[tuple[Path, str]]:
        self._laid.pop(name, None)
        _empty(self.inputs / name)
        for path, digest in files:
            target = self.path(name, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.mkfifo(target)
            yield target, digest
        self._laid[name] = _Laid((), {"": ()})  # never the same again

    def _untouched(self, name: str, laid: _Laid) -> bool:
        return dict(_looks(self.inputs / name)) == laid.seen


def outputs_of(
    layout: Layout, put: Callable[[Path], tuple[str, int]]
) -> list[tuple[str, str, int]]:
    """Path, digest and size of every file in the output, by path.

    A link counts as the file that it leads to, which must be in the directories of the datum.

    Raises:
        Invalid: ``step.output`` naming what cannot be kept.
    """
    found = []
    root = layout.root.resolve()
    for place, directories, names in os.walk(layout.out):
        linked = [name for name in directories if Path(place, name).is_symlink()]
        for name in sorted([*names, *linked]):
            file = Path(place, name)
            relative = os.fsencode(file.relative_to(layout.out)).decode(errors="replace")
            target = file.resolve()
            if not target.is_relative_to(root):
                raise _refused(relative, "a link that leads elsewhere", "Copy the file instead.")
            if not target.exists() or not stat.S_ISREG(target.stat().st_mode):
                raise _refused(relative, "no regular file", "Leave files and directories only.")
            try:
                path = normal_path("/" + file.relative_to(layout.out).as_posix())
            except Invalid as error:
                raise _refused(relative, error.message, error.hint) from None
            found.append((path, *put(target)))
    return sorted(found)


def _looks(directory: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """What of every file and directory below changes with its content."""
    for place, directories, names in os.walk(directory):
        for name in directories:
            yield os.path.join(place, name), ()  # noqa: PTH118 - strings are enough
        for name in names:
            path = os.path.join(place, name)  # noqa: PTH118 - as above
            look = os.lstat(path)
            yield path, (look.st_ino, look.st_size, look.st_mtime_ns, look.st_ctime_ns)


def _empty(place: Path) -> None:
    """An empty directory, made or emptied: removing one costs more than all else of a datum."""
    if place.is_symlink() or not place.is_dir():
        place.unlink(missing_ok=True)
        place.mkdir(parents=True, exist_ok=True)
        return
    try:
        with os.scandir(place) as found:
            for one in found:
                if one.is_dir(follow_symlinks=False):
                    _remove(Path(one.path))
                else:
                    os.unlink(one.path)  # noqa: PTH108 - an entry of scandir
    except PermissionError:
        _remove(place)
        place.mkdir(parents=True)


def _remove(place: Path) -> None:
    """Remove a directory with all in it, also where the program has taken away the right to."""
    try:
        shutil.rmtree(place)
    except FileNotFoundError:
        return
    except PermissionError:
        for directory, _, _ in os.walk(place):
            Path(directory).chmod(0o700)
        shutil.rmtree(place)


def _refused(path: str, what: str, hint: str) -> Invalid:
    return Invalid("step.output", f"The output {path!r} is {what}.", hint=hint)
