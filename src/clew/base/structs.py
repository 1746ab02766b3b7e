"""Records that several threads meet at once.

msgspec learns what a Struct is made of when it is first asked to read one. Another thread that asks
meanwhile finds it half known, and the process dies of it (a null pointer, in 0.22 and before). So
where there are several threads msgspec is told of every record that is loaded, by one thread at a
time: before the others begin, and of what a door loads later before anybody gets it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from weakref import WeakSet


class Known:
    """Which records msgspec knows, in this process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._classes: WeakSet[type] = WeakSet()
        self._several = False

    def several_threads(self) -> None:
        """From now on there are several threads, or soon."""
        self._several = True
        self.tell()

    def tell(self) -> None:
        """Have msgspec know what is loaded now, where there are several threads."""
        msgspec = sys.modules.get("msgspec")  # where nobody has loaded it there are no records
        if not self._several or msgspec is None:
            return
        with self._lock:
            for one in _below(msgspec.Struct):
                if one not in self._classes and one.__module__.partition(".")[0] == "clew":
                    self._tell(msgspec, one)

    def _tell(self, msgspec: object, one: type) -> None:
        try:
            msgspec.json.Decoder(one)  # type: ignore[attr-defined]  # a module, without its import
        except NameError:
            return  # what it names is not loaded yet: next time
        except Exception:  # noqa: BLE001, S110 - it cannot be read at all, so nobody will ask
            pass
        self._classes.add(one)


KNOWN = Known()
"""Of this process, as msgspec's own memory is."""


def _below(one: type) -> Iterator[type]:
    below: list[type] = one.__subclasses__()
    for each in below:
        yield each
        yield from _below(each)
