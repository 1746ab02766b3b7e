"""From an older on-disk format to this one, step by step, when a directory is opened.

Knows versions and the order of writes; what a step changes is the step's own. Where nothing is to
be done this costs nothing but the look at the format file that every opening takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from clew.base.errors import Conflict
from clew.store.local import Disk, LocalShelf, publish
from clew.store.opening import FORMAT_VERSION, check_format, encode_format, version_of

Upgrade = Callable[[Path, Disk], None]
"""Brings a store from one version to the next. May be cut short anywhere and is then begun again;
until it has ended, the version before must be able to read what is there."""

UPGRADES: Mapping[int, Upgrade] = {}
"""By the version that they lead away from. Version 1 is the first, so there is none yet."""


def bring_up(
    path: Path,
    disk: Disk,
    *,
    upgrades: Mapping[int, Upgrade] = UPGRADES,
    newest: int = FORMAT_VERSION,
) -> list[int]:
    """Upgrade the store at ``path`` to the newest format; the versions that it came through.

    Raises:
        Invalid: ``store.format`` where no way leads from what it is (a newer one, say).
        Conflict: ``store.upgrading`` where another process is at it.
    """
    form = path / "format"
    if version_of(form.read_bytes()) == newest:
        return []
    (path / "tmp").mkdir(exist_ok=True)
    shelf = LocalShelf(path / "packs", path / "tmp", disk)
    with shelf.alone() as mine:
        if not mine:
            raise Conflict(
                "store.upgrading",
                f"Another process is upgrading the store at {path}.",
                hint="Wait until it is done, then do this again.",
            )
        return _climb(path, form, disk, upgrades, newest)


def _climb(
    path: Path, form: Path, disk: Disk, upgrades: Mapping[int, Upgrade], newest: int
) -> list[int]:
    passed: list[int] = []
    while (version := version_of(form.read_bytes())) != newest:
        step = upgrades.get(version) if version is not None else None
        if version is None or step is None or version > newest:
            check_format(str(form), form.read_bytes(), newest=newest)
            break
        step(path, disk)
        publish(form, [encode_format(version + 1)], scratch=path / "tmp", disk=disk)
        passed.append(version)
    return passed
