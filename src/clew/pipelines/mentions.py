"""What code names in passing: files of the project, and functions that read the clock.

Knows one statement at a time and the directory of the project; what is reached is for
``fingerprint``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

from clew.pipelines.modules import Module
from clew.pipelines.syntax import Ignore, Reference, chain_of
from clew.store import digest

_LONGEST = 200
_MOST_FILES = 1000
_SKIPPED = frozenset({".py", ".pyc"})
_TAKE_DIRECTORIES = frozenset(
    {"Path", "PurePath", "PosixPath", "joinpath", "join", "files", "iterdir", "listdir", "scandir"}
    | {"walk", "glob", "iglob", "rglob"}
)
"""Functions whose text argument may well be a directory."""

_CLOCKS = frozenset(
    {"datetime.datetime.now", "datetime.datetime.today", "datetime.datetime.utcnow"}
    | {"datetime.date.today", "time.time", "time.time_ns", "time.ctime", "uuid.uuid1"}
    | {"pandas.Timestamp.now", "pandas.Timestamp.today", "pandas.Timestamp.utcnow"}
)


def named_files(directory: Path, module: Module, node: ast.stmt, ignore: Ignore) -> dict[str, str]:
    """Files of the project that the texts of a statement name, with digests of their contents.

    A text counts as a path from the project's directory or from that of the module's file. A
    directory counts, with all below it, only where a path is expected. Python files never do:
    what code means is told from its syntax.
    """
    found: dict[str, str] = {}
    for text, maybe_directory in _texts(node, ignore):
        for place in _places(module, text):
            path = directory / place
            if path.is_file() and path.suffix not in _SKIPPED:
                found[place] = _digest_of_file(path)
            elif maybe_directory and place != "." and path.is_dir():
                found |= _below(directory, path)
    return found


def clocks(module: Module, references: Iterable[Reference]) -> Iterator[str]:
    """Functions among what is referred to that say what time it is (``datetime.datetime.now``)."""
    for reference in references:
        found = (
            [reference.imported]
            if reference.imported is not None
            else module.imports.get(reference.chain[0], ())
        )
        for imported in found:
            first = [imported.module, imported.name] if imported.name else [imported.module]
            dotted = ".".join([*first, *reference.chain[1:]])
            if not imported.level and dotted in _CLOCKS:
                yield dotted


def _texts(node: ast.stmt, ignore: Ignore) -> Iterator[tuple[str, bool]]:
    """Texts that could be paths, and whether a directory would do."""
    dress = {id(one.value) for one in ast.walk(node) if isinstance(one, ast.Expr)}
    paths = set(_paths(node))
    for inner in _walk(node, ignore):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            text = inner.value
            if id(inner) not in dress and 0 < len(text) <= _LONGEST and _may_be_path(text):
                yield text, id(inner) in paths


def _walk(node: ast.AST, ignore: Ignore) -> Iterator[ast.AST]:
    if isinstance(node, ast.expr) and ignore(node):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, ignore)


def _paths(node: ast.stmt) -> Iterator[int]:
    """Ids of nodes that stand where a path is expected."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call):
            chain = chain_of(inner.func)
            name = chain[-1] if chain else getattr(inner.func, "attr", "")
            if name in _TAKE_DIRECTORIES:
                yield from map(id, inner.args)
        elif isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Div):
            yield id(inner.right)


def _may_be_path(text: str) -> bool:
    return not text.startswith("/") and "\n" not in text and "\0" not in text


def _places(module: Module, text: str) -> Iterator[str]:
    """Where in the project a text may lie, as a POSIX path; nothing outside of it."""
    beside = PurePosixPath(module.path).parent
    for place in dict.fromkeys((PurePosixPath(text), beside / text)):
        if ".." not in place.parts:
            yield place.as_posix()
        elif (plain := _without_dots(place)) is not None:
            yield plain


def _without_dots(path: PurePosixPath) -> str | None:
    parts: list[str] = []
    for part in path.parts:
        if part != "..":
            parts.append(part)
        elif not parts:
            return None
        else:
            parts.pop()
    return "/".join(parts) or "."


def _below(directory: Path, place: Path) -> dict[str, str]:
    files = (one for one in sorted(place.rglob("*")) if one.is_file())
    wanted = [one for one in files if one.suffix not in _SKIPPED][:_MOST_FILES]
    return {one.relative_to(directory).as_posix(): _digest_of_file(one) for one in wanted}


def _digest_of_file(path: Path) -> str:
    stat = path.stat()
    return _digest_as_of(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4096)
def _digest_as_of(path: Path, _mtime_ns: int, _size: int) -> str:
    return digest("code", path.read_bytes())
