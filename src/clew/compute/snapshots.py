"""The user's project in this process: one snapshot at a time, imported from its directory.

Knows nothing of pipelines; of Clew's own objects only that they carry ``__wrapped__``.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from clew.base.errors import Invalid, NotFound
from clew.base.own_code import own_directories_here


class _Bound:
    """The snapshot that ``sys.path`` and ``sys.modules`` of this process stand for."""

    directory = ""


def bind(snapshot_dir: str) -> None:
    """Make ``snapshot_dir`` the one project whose modules can be imported ('': none).

    Modules that came from another snapshot are forgotten, so that the same name means the new
    project's file; and so are those of the user's own on ``PYTHONPATH`` that the project has
    itself. Not thread-safe: a process runs one call at a time.
    """
    directory = str(Path(snapshot_dir).absolute()) if snapshot_dir else ""
    if directory == _Bound.directory:
        return
    if _Bound.directory:
        _forget(_Bound.directory)
    if directory:
        sys.path.insert(0, directory)
        importlib.invalidate_caches()
        _forget_others(directory)
    _Bound.directory = directory


def load_module(snapshot_dir: str, file: str) -> ModuleType:
    """The module of ``file`` (a path below ``snapshot_dir``), imported once per snapshot.

    Its name is the one that the project's other files import it by (``pkg/a.py`` is ``pkg.a``),
    unless that means another module, such as one of the standard library; then it is a name of its
    own. What the import raises is raised.

    Raises:
        NotFound: ``code.file``.
    """
    bind(snapshot_dir)
    path = Path(_Bound.directory, file.lstrip("/"))
    if not path.is_file():
        raise NotFound(
            "code.file",
            f"There is no file {file!r} in the project snapshot.",
            hint="Apply the file again, so that a snapshot with it is taken.",
        )
    name = _natural_name(file)
    if name and _means(name, path):
        return importlib.import_module(name)
    return _import_as(f"clew_file_{zlib.crc32(str(path).encode()):08x}", path)


def load_function(snapshot_dir: str, file: str, name: str) -> Callable[..., Any]:
    """The function that ``name`` means in ``file``; see :func:`load_module`.

    What Clew's decorators put in its place is taken off again; the user's own decorators stay.

    Raises:
        NotFound: ``code.file`` or ``code.function``.
        Invalid: ``code.function`` where it cannot be called.
    """
    found: object = load_module(snapshot_dir, file)
    for part in name.split("."):
        if not hasattr(found, part):
            raise _no_function(found, file, name)
        found = getattr(found, part)
    while type(found).__module__.partition(".")[0] == "clew" and hasattr(found, "__wrapped__"):
        found = found.__wrapped__
    if not callable(found):
        raise Invalid(
            "code.function",
            f"{name!r} in {file!r} is a {type(found).__name__}, not a function.",
            hint="Name a function at the top level of the file.",
        )
    return found


def _no_function(module: object, file: str, name: str) -> NotFound:
    import difflib  # noqa: PLC0415 - for this error only; workers start without it

    near = difflib.get_close_matches(name, [n for n in dir(module) if not n.startswith("_")])
    return NotFound(
        "code.function",
        f"There is no {name!r} in {file!r}.",
        hint=f"Did you mean {near[0]!r}?" if near else "Define it at the top level of the file.",
    )


def _natural_name(file: str) -> str:
    parts = Path(file.lstrip("/")).with_suffix("").parts
    return ".".join(parts) if all(part.isidentifier() for part in parts) else ""


def _means(name: str, path: Path) -> bool:
    """Whether ``import name`` gives the file at ``path``."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or top == "clew":
        return False
    known = sys.modules.get(name)
    if known is not None:
        return getattr(known, "__file__", None) == str(path)
    parent = sys.modules.get(top)
    if parent is not None and not _is_below(parent, _Bound.directory):
        return False
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise  # from the user's own __init__.py
        return False  # the directory is no package, as another module has its name
    return spec is not None and spec.origin == str(path)


def _import_as(name: str, path: Path) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise Invalid(
            "code.file",
            f"{path.name!r} is not a Python file.",
            hint="Name a file that ends in .py.",
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _forget(directory: str) -> None:
    sys.path[:] = [entry for entry in sys.path if not _is_inside(entry, directory)]
    for name, module in list(sys.modules.items()):
        if _is_below(module, directory):
            del sys.modules[name]
    for entry in list(sys.path_importer_cache):
        if _is_inside(entry, directory):
            del sys.path_importer_cache[entry]


def _forget_others(directory: str) -> None:
    """Modules from ``PYTHONPATH`` that went along with the project: it has its own of them."""
    others = own_directories_here()
    tops = {one.stem for one in Path(directory).iterdir()} - {"clew"} if others else set()
    for name, module in list(sys.modules.items()) if tops else ():
        if name.partition(".")[0] in tops and any(_is_below(module, one) for one in others):
            del sys.modules[name]


def _is_below(module: ModuleType, directory: str) -> bool:
    """Whether a module (or a package without a file of its own) came from ``directory``."""
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return _is_inside(file, directory)
    places = getattr(module, "__path__", ())
    return isinstance(places, Iterable) and any(_is_inside(str(p), directory) for p in places)


def _is_inside(path: str, directory: str) -> bool:
    return bool(directory) and (path == directory or path.startswith(directory + "/"))
