"""The user's code beside a project: directories of ``PYTHONPATH`` in which nothing is installed.

Knows what Python makes of ``PYTHONPATH``, and no rooms.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

PATH = "PYTHONPATH"
_OF_ONE_PYTHON = frozenset({PATH, "PYTHONHOME", "VIRTUAL_ENV"})
_PACKAGES = frozenset({"site-packages", "dist-packages"})


def own_directories(text: str) -> tuple[str, ...]:
    """The entries of a ``PYTHONPATH`` that hold the user's own code, in their order, absolute.

    What is not: where distributions are installed (``site-packages``, or anything with their
    metadata), eggs, a standard library, and what is not there.
    """
    entries = [str(Path(one).absolute()) for one in text.split(os.pathsep) if one]
    return tuple(one for one in dict.fromkeys(entries) if _is_own(Path(one)))


def own_directories_here() -> tuple[str, ...]:
    """Those of this process."""
    return own_directories(os.environ.get(PATH, ""))


def for_another_python(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` for a Python with packages of its own: with the user's code that is on
    ``PYTHONPATH`` and none of the packages there, nor what names the Python of this process.
    """
    told = {name: one for name, one in environ.items() if name not in _OF_ONE_PYTHON}
    own = own_directories(environ.get(PATH, ""))
    return {**told, PATH: os.pathsep.join(own)} if own else told


def _is_own(place: Path) -> bool:
    if not _PACKAGES.isdisjoint(place.parts) or place.suffix == ".egg" or not place.exists():
        return False
    return not (place / "os.py").exists() and not any(place.glob("*.dist-info"))
