"""The user's own code beside a project that belongs to it: what it imports from ``PYTHONPATH``.

Reads Python files and imports none of them. Knows no rooms.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from clew.base.address import normal_path
from clew.base.own_code import own_directories, own_directories_here

MOST_FILES = 1_000
MOST_BYTES = 16 << 20
LARGEST_BYTES = 1 << 20
"""A package with more, or with a larger file that is no Python, stays where it is."""

_MOST_SEEN = 20_000
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})
_COMPILED = frozenset({".so", ".pyd", ".dll", ".dylib"})
_OURS = "clew"
_IMPORTERS = frozenset({"import_module", "__import__"})


def own_packages(files: Mapping[str, bytes], path: str) -> dict[str, Path]:
    """Modules and packages on ``path`` (a ``PYTHONPATH``) that the files of a project import, and
    those that they import in turn: by name in the project, where each file lies.

    A package goes along whole, with its data. What the project has itself comes first, as it does
    for Python; what is compiled or large, or was installed, is left out.
    """
    places = _places(own_directories(path))
    found: dict[str, Path] = {}
    seen = {_OURS}
    todo = [content for name, content in files.items() if name.endswith(".py")] if places else []
    while todo:
        for top in sorted(imported(todo.pop()) - seen):
            seen.add(top)
            for name, place in {} if _has(files, top) else _whole(top, places):
                found[name] = place
                todo += [place.read_bytes()] if place.suffix == ".py" else []
    return found


def is_on_path(top: str) -> bool:
    """Whether a module of that name comes here from the user's own code on ``PYTHONPATH``."""
    return top != _OURS and any(_stands(top, place) for place in _places(own_directories_here()))


def imported(source: bytes) -> set[str]:
    """The first names of the modules that a file imports, also inside functions; none of one that
    is no Python.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return set()
    return {name.partition(".")[0] for node in ast.walk(tree) for name in _named(node) if name}


def _named(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield "" if node.level else node.module or ""
    elif isinstance(node, ast.Call) and node.args:
        called = getattr(node.func, "attr", "") or getattr(node.func, "id", "")
        first = getattr(node.args[0], "value", None)
        if called in _IMPORTERS and isinstance(first, str):
            yield "" if first.startswith(".") else first


def _places(directories: Iterable[str]) -> list[Path]:
    return [Path(one) for one in directories if Path(one).is_dir()]


def _has(files: Mapping[str, bytes], top: str) -> bool:
    return any(f"/{name}".endswith(f"/{top}.py") or f"/{top}/" in f"/{name}" for name in files)


def _stands(top: str, place: Path) -> bool:
    package = place / top
    return (
        (package / "__init__.py").is_file()
        or (place / f"{top}.py").is_file()
        or _is_compiled(top, place)
        or _is_namespace(package)
    )


def _is_compiled(top: str, place: Path) -> bool:
    return any(one.suffix in _COMPILED for one in place.glob(f"{top}.*"))


def _is_namespace(package: Path) -> bool:
    if not package.is_dir():
        return False
    return any(one.suffix == ".py" for one in islice(_below(package), _MOST_SEEN))


def _whole(top: str, places: list[Path]) -> list[tuple[str, Path]]:
    """The files of a module or package: of the first regular one, else of a directory that is one
    without an ``__init__``.
    """
    for place in places:
        if (place / top / "__init__.py").is_file():
            return _package(place, place / top)
        if _is_compiled(top, place):
            return []
        if (place / f"{top}.py").is_file():
            return [(f"{top}.py", place / f"{top}.py")]
    for place in places:
        if _is_namespace(place / top):
            return _package(place, place / top)
    return []


def _package(place: Path, package: Path) -> list[tuple[str, Path]]:
    """All files below a package by their names; none where it cannot go along whole."""
    found, size_bytes = [], 0
    for file in _below(package):
        size = file.stat().st_size
        size_bytes += size
        too_large = size > LARGEST_BYTES and file.suffix != ".py"
        if too_large or file.suffix in _COMPILED or size_bytes > MOST_BYTES:
            return []
        found.append((normal_path(file.relative_to(place).as_posix()).lstrip("/"), file))
        if len(found) > MOST_FILES:
            return []
    return found


def _below(directory: Path) -> Iterator[Path]:
    for here, names, files in os.walk(directory):
        names[:] = sorted(
            one
            for one in names
            if not one.startswith(".")
            and one not in _SKIPPED
            and not Path(here, one, "pyvenv.cfg").exists()
        )
        for one in sorted(files):
            file = Path(here, one)
            if not one.startswith(".") and file.suffix != ".pyc" and file.is_file():
                yield file
