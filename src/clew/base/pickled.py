"""Functions and models of the user as pickles: what of a project goes along, and read once more.

Knows no rooms. Reading one runs the user's code: only workers and serving processes do so.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from clew.base.errors import Corrupt, Unavailable
from clew.base.own_code import PATH, own_directories

_OURS = "clew"


def dumped_whole(value: object, directory: str | Path) -> bytes:
    """A pickle that brings along what modules of a project define, and what modules of the user's
    own on ``PYTHONPATH`` do. Where the latter cannot go along (a lock, an open file), they are
    named, and must be there when it is read.
    """
    import cloudpickle  # noqa: PLC0415 - those who read a pickle need none of it

    try:
        with by_value(directory):
            whole: bytes = cloudpickle.dumps(value)
            return whole
    except Exception:  # pickling runs methods of the user's classes: anything may come
        if not _beside():
            raise
    with _registered(own_modules(directory)):
        named: bytes = cloudpickle.dumps(value)
        return named


@contextmanager
def by_value(directory: str | Path) -> Iterator[None]:
    """Within, what modules below a directory ('': none) define is pickled whole, not by its name;
    and so is what modules of the user's own on ``PYTHONPATH`` define.

    Modules of one project have the same names in each of its versions.
    """
    with _registered([*own_modules(directory), *_beside()]):
        yield


@contextmanager
def _registered(modules: Sequence[ModuleType]) -> Iterator[None]:
    import cloudpickle  # noqa: PLC0415 - those who read a pickle need none of it

    each = {id(one): one for one in modules}.values()
    for module in each:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in each:
            cloudpickle.unregister_pickle_by_value(module)


def along(directory: str | Path) -> set[str]:
    """The top-level names of the modules that go along now."""
    return {one.__name__.partition(".")[0] for one in (*own_modules(directory), *_beside())}


def own_modules(directory: str | Path) -> list[ModuleType]:
    """Modules that are imported now from files below a directory; '': none."""
    if not str(directory):
        return []
    roots = (f"{directory}/", f"{Path(directory).resolve()}/")
    return [module for module in list(sys.modules.values()) if _is_below(module, roots)]


def _beside() -> list[ModuleType]:
    """Modules of the user's own that came from ``PYTHONPATH``: Python files, nothing compiled."""
    return [
        module
        for directory in own_directories(os.environ.get(PATH, ""))
        for module in own_modules(directory)
        if str(module.__file__).endswith(".py")
        and module.__name__.partition(".")[0] not in {_OURS, "__main__"}
        and sys.modules.get(module.__name__) is module
    ]


def _is_below(module: ModuleType, roots: tuple[str, ...]) -> bool:
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return False
    if file.startswith(roots):
        return True
    if file.startswith((sys.prefix, sys.base_prefix)):
        return False  # thousands of them: not worth a look at the disk
    return str(Path(file).resolve()).startswith(roots)


def read_function(content: bytes, of: str) -> Callable[..., Any]:
    """A function that was pickled when its file was applied. ``of``: what it belongs to.

    Raises:
        Unavailable: ``model.distribution`` where it needs a module that is not installed.
        Corrupt: ``processing.code`` where it cannot be read.
    """
    try:
        found: Callable[..., Any] = pickle.loads(content)
    except ModuleNotFoundError as error:
        raise Unavailable(
            "model.distribution",
            f"A function of {of} needs the module {error.name!r}, which is not here.",
            hint="Install it where endpoints are served; modules of the project must be imported "
            "at the top of its files.",
        ) from error
    except Exception as error:  # a pickle runs the user's code: anything may come
        raise Corrupt(
            "processing.code",
            f"A function of {of} cannot be read: {type(error).__name__}: {error}",
            hint="Apply the file again with the Python and the distributions of the server.",
        ) from error
    return found
