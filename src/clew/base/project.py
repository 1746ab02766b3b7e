"""Which files belong to the project around a user's file: what a snapshot of code holds.

Knows nothing of stores or servers: embedded and remote workspaces take the same files by it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias, TypeVar

from msgspec import Struct

from clew.base.address import normal_path
from clew.base.errors import Invalid, NotFound
from clew.base.notebook import cells_of_file, cells_of_kernel, module_of, names_of
from clew.base.own_code import PATH, own_directories_here
from clew.base.own_packages import own_packages

SUFFIXES = frozenset(
    {".py", ".sql", ".toml", ".json", ".yaml", ".yml", ".txt", ".md", ".R", ".sh", ".jl"}
    | {
        ".cfg",
        ".ini",
        ".r",
        ".Rmd",
        ".pl",
        ".rb",
        ".js",
        ".mjs",
        ".ts",
        ".lua",
        ".awk",
        ".sed",
        ".m",
    }
    | {".bash", ".php", ".do", ".sas", ".go", ".rs", ".c", ".h", ".cpp", ".java", ".scala"}
)
MAX_FILES = 2_000
MAX_FILE_BYTES = 1 << 20
MAX_TOTAL_BYTES = 64 << 20
_MAX_SEEN = 100_000
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "build", "dist"})


def project_files(file: Path) -> tuple[dict[str, Path], str]:
    """The files of the project around ``file`` and the name of ``file`` among them.

    The project is the directory of the file and all below it: code and small text (suffixes in
    ``SUFFIXES``, at most 1 MiB each; Python code of any size). Hidden names, caches, virtual
    environments and links that lead elsewhere are left out. Besides: modules and packages of the
    user's own on ``PYTHONPATH`` that these import (:func:`clew.base.own_packages.own_packages`), by
    the names that they are imported by. Names are relative with ``/`` between parts
    (``flights.py``, ``lib/clean.py``), in the order of their bytes.

    Raises:
        NotFound: ``file.unknown`` where there is no such file.
        Invalid: ``project.not_python``; ``project.too_large`` naming the directory that holds
            most; ``path.invalid``.
    """
    path = file.absolute()
    _check_file(file)
    if path.suffix != ".py":
        raise Invalid(
            "project.not_python",
            f"{file} is not a Python file.",
            hint="Name the .py file or the notebook that defines the pipeline.",
        )
    root = path.parent
    found = {_name(root, place): place for place in _walk(root)}
    found[path.name] = path
    _check_size(root, found)
    own = _own(_content(found)) if own_directories_here() else {}
    return _in_order(found | own), path.name


class Files(Struct, frozen=True, kw_only=True):
    """A project that was put together in memory: its files, and which of them is applied."""

    content: dict[str, bytes]
    entry: str


Applicable: TypeAlias = Path | str | Files | object
"""What can be applied: a file of Python, a notebook, or in a notebook a pipeline itself."""


def read_project(target: Applicable) -> tuple[dict[str, bytes], str]:
    """The files of a project with their content, and which of them defines pipelines.

    A notebook (``.ipynb``), and a pipeline that the cells of this kernel made, become a module of
    their own: what their cells say of the pipeline, and all that this needs.

    Raises:
        NotFound: ``file.unknown``, ``notebook.unknown``.
        Invalid: as :func:`project_files`; ``notebook.unreadable``, ``notebook.no_pipeline``.
    """
    if isinstance(target, Files):
        return target.content, target.entry
    if isinstance(target, Path | str):
        file = Path(target)
        if file.suffix != ".ipynb":
            paths, entry = project_files(file)
            return _content(paths), entry
        _check_file(file)
        return _with_module(file.absolute().parent, file.stem, module_of(cells_of_file(file)))
    cells = cells_of_kernel()
    name = str(getattr(target, "name", "pipeline"))
    return _with_module(Path.cwd(), name, module_of(cells, names_of(target)))


def _with_module(root: Path, name: str, text: str) -> tuple[dict[str, bytes], str]:
    found = _content(_around(root))
    entry = "".join(c if c.isalnum() else "_" for c in name) + "_notebook.py"
    found[entry] = text.encode()
    return _in_order(found | _content(_own(found))), entry


_Held = TypeVar("_Held", bytes, Path)


def _in_order(files: dict[str, _Held]) -> dict[str, _Held]:
    return dict(sorted(files.items(), key=lambda item: item[0].encode()))


def _own(files: dict[str, bytes]) -> dict[str, Path]:
    """Code of the user's own that these import from elsewhere, where there is room for it."""
    found = own_packages(files, os.environ.get(PATH, ""))
    sizes = [len(content) for content in files.values()]
    sizes += [place.stat().st_size for place in found.values()]
    return found if len(sizes) <= MAX_FILES and sum(sizes) <= MAX_TOTAL_BYTES else {}


def _content(paths: dict[str, Path]) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in paths.items()}


def _around(root: Path) -> dict[str, Path]:
    found = {_name(root, place): place for place in _walk(root)}
    _check_size(root, found)
    return found


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise NotFound(
            "file.unknown",
            f"There is no file {path}.",
            hint="Name a Python file that defines a pipeline; `clew init` makes one.",
        )


def _walk(root: Path) -> Iterator[Path]:
    seen = Counter[str]()
    for directory, names, files in os.walk(root):
        here = Path(directory)
        names[:] = [name for name in names if _enter(here / name)]
        seen[directory] += len(files) + len(names)
        if seen.total() > _MAX_SEEN:
            raise _too_large(Path(seen.most_common(1)[0][0]), f"more than {_MAX_SEEN:,} files")
        yield from (here / name for name in files if _belongs(root, here / name))


def _enter(directory: Path) -> bool:
    name = directory.name
    if name.startswith(".") or name in _SKIPPED or directory.is_symlink():
        return False
    return not (directory / "pyvenv.cfg").exists()


def _belongs(root: Path, file: Path) -> bool:
    if file.name.startswith(".") or file.suffix not in SUFFIXES:
        return False
    if file.is_symlink() and not file.resolve().is_relative_to(root.resolve()):
        return False
    if not file.is_file():
        return False
    return file.suffix == ".py" or file.stat().st_size <= MAX_FILE_BYTES


def _name(root: Path, file: Path) -> str:
    return normal_path(file.relative_to(root).as_posix()).lstrip("/")


def _check_size(root: Path, found: dict[str, Path]) -> None:
    if len(found) > MAX_FILES:
        fullest = Counter(place.parent for place in found.values()).most_common(1)[0][0]
        raise _too_large(fullest, f"{len(found):,} files of code and text below {root}")
    sizes = {place: place.stat().st_size for place in found.values()}
    if sum(sizes.values()) > MAX_TOTAL_BYTES:
        weights = Counter[Path]()
        for place, size in sizes.items():
            weights[place.parent] += size
        heaviest = weights.most_common(1)[0][0]
        raise _too_large(heaviest, f"{sum(sizes.values()) >> 20} MiB of code and text below {root}")


def _too_large(directory: Path, what: str) -> Invalid:
    return Invalid(
        "project.too_large",
        f"The project is too large for a snapshot of its code: {what}, most of it in {directory}.",
        hint="Keep data out of the directory of the code: commit it with `clew put`, "
        "or give the pipeline's file a directory of its own.",
    )
