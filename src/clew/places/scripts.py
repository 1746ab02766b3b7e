"""Which files of a project a program consists of: those it names, and those that these name.

Knows no language. A word that is the path of a project file, with or without its ending, counts,
so that nothing is missed; a word that means something else costs a needless run at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from clew.base.errors import Invalid
from clew.store import digest

_WORD = re.compile(rb"[\w./\-+@]+")
_LARGEST = 1 << 20


def parts_of(directory: Path, arguments: Sequence[str]) -> dict[str, str]:
    """Digest by path of every file of the project that a program depends on.

    A directory that is named counts with all that is in it.
    """
    project = _Project(directory)
    left = list(project.named("\n".join(arguments).encode(), ""))
    found: dict[str, str] = {}
    while left:
        path = left.pop()
        if path in found:
            continue
        content = (directory / path).read_bytes()
        found[path] = str(digest("code", content))
        if len(content) <= _LARGEST:
            left += project.named(content, str(PurePosixPath(path).parent))
    return dict(sorted(found.items()))


def requirement_lines(directory: Path, lines: Sequence[str]) -> Iterator[str]:
    """Lines of requirements, with those of the project files that ``-r`` names in their place.

    Raises:
        Invalid: ``pipeline.definition`` where there is no such file in the project.
    """
    yield from _lines(directory, "", lines, ())


def _lines(
    directory: Path, where: str, lines: Sequence[str], above: tuple[str, ...]
) -> Iterator[str]:
    for line in lines:
        words = line.split("#", 1)[0].split() if line.lstrip().startswith("#") else line.split()
        if not words:
            continue
        if words[0] not in {"-r", "--requirement"} or len(words) != 2:
            yield " ".join(words)
            continue
        path = (PurePosixPath(where) / words[1]).as_posix()
        file = directory / path
        if (
            path in above
            or not file.is_file()
            or not file.resolve().is_relative_to(directory.resolve())
        ):
            raise Invalid(
                "pipeline.definition",
                f"There is no requirements file {path!r} in the project.",
                hint="Name one relative to the pipeline's file, ending in .txt, "
                'or give a list: requirements=["pandas==2.2.3"].',
            )
        text = file.read_text().replace("\\\n", " ")
        parent = PurePosixPath(path).parent.as_posix()
        yield from _lines(directory, parent, text.splitlines(), (*above, path))


class _Project:
    """The files of a directory by every name that a program may call them."""

    def __init__(self, directory: Path) -> None:
        self._files: dict[str, set[str]] = {}
        for file in sorted(directory.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                self._add(file.relative_to(directory))

    def named(self, text: bytes, where: str) -> Iterator[str]:
        """Files that words of ``text`` name, seen from the project and from ``where``."""
        words = {word.decode(errors="replace") for word in _WORD.findall(text)}
        for word in words:
            for name in {word, word.strip("."), word.rstrip(".").replace(".", "/")}:
                for place in {"", where}:
                    yield from self._files.get(_normal(place, name), ())

    def _add(self, path: Path) -> None:
        whole = path.as_posix()
        names = {whole, path.with_suffix("").as_posix()}
        names |= {above.as_posix() for above in path.parents if above.name}
        for name in names:
            self._files.setdefault(name, set()).add(whole)


def _normal(where: str, name: str) -> str:
    """A relative path without ``.`` and ``..``; '' where it leaves the project."""
    parts: list[str] = []
    for part in (*PurePosixPath(where).parts, *PurePosixPath(name.lstrip("/")).parts):
        if part == ".." and not parts:
            return ""
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
