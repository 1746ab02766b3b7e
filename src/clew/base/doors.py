"""Doors that open on demand: names of a room that are loaded when they are first asked for.

Knows no room. A user's file and a worker import definitions from many rooms; what carries them out
(rows, frames, models) is loaded only by those who use it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from clew.base.structs import KNOWN


def on_demand(module: str, places: Mapping[str, str], package: str = "") -> Callable[[str], Any]:
    """A module's ``__getattr__`` (PEP 562): name → the submodule of ``package`` that has it.

    Without ``package`` the module is that package itself: the door of a room.
    """

    def load(name: str) -> Any:
        place = places.get(name)
        if place is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        found = import_module(f"{package or module}.{place}")
        KNOWN.tell()
        value = getattr(found, name)
        setattr(sys.modules[module], name, value)
        return value

    return load
