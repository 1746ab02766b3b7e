"""Files of a directory on this disk, as they come, change and go.

Knows the disk; what was committed it is told by marks.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from clew.base.errors import NotFound, NotReady
from clew.repos import glob_match
from clew.sources.definitions import Feed
from clew.sources.reading import Increment, Place, Position, Standing, Surroundings, plain_wait

_MOST = 10_000
"""Files of one commit."""


class _Options(msgspec.Struct, kw_only=True):
    path: str
    glob: str = "**"
    settle_s: float = 2.0
    deletes: bool = False
    into: str = "/"


class DirectoryReader:
    """Watches one directory. Keeps ``clew.sources.reading.Reader``.

    The state of a file is its size, its times of change and its inode. A file has settled when its
    state was the same ``settle_s`` before, by the clock of this process, or when it was last
    written longer ago than that. Whatever changes while it is read is left for the next time.
    """

    def __init__(self, name: str, feed: Feed, around: Surroundings) -> None:  # noqa: ARG002 - as every source is made
        self._options = msgspec.convert(feed.options, _Options)
        self._root = around.root / Path(self._options.path).expanduser()
        self._glob = glob_match(self._options.glob)
        self._clock = around.clock
        self._since: dict[str, tuple[str, int]] = {}
        self._standing = Standing()
        self._watch: _Watch | None = None

    def read(self, place: Place, stop: Callable[[], bool]) -> Increment | None:
        """See :meth:`Reader.read`."""
        if not self._root.is_dir():
            raise NotFound(
                "source.directory",
                f"There is no directory {self._root}.",
                hint="Make it, or mend the path in the definition.",
            )
        now_us = self._clock.now_us()
        marks, odd = place.marks(), 0
        states: dict[str, str] = {}
        for path, state, ok in self._files():
            if not ok:
                odd += 1
            elif self._glob.match(f"/{path}") is not None:
                states[path] = state
            if stop():
                return None
        changed = [path for path, state in states.items() if marks.get(path) != state]
        ready = [path for path in changed if self._settled(path, states[path], now_us)]
        gone = [path for path in marks if path not in states] if self._options.deletes else []
        self._since = {path: self._since[path] for path in changed if path in self._since}
        self._stand(len(changed) - len(ready), odd)
        if not ready and not gone:
            return None
        chosen = ready[:_MOST]
        return Increment(
            puts={self._path(path): self._root / path for path in chosen},
            deletes=[self._path(path) for path in gone],
            position={},
            marked={path: states[path] for path in chosen},
            unmarked=gone,
            items=len(chosen),
            size_bytes=sum(int(states[path].partition(":")[0]) for path in chosen),
            more=len(ready) > len(chosen),
            message=_told(len(chosen), len(gone)),
            check=lambda _: self._check(chosen, states),
        )

    def committed(self, position: Position) -> None:
        """Nothing: the directory stays as it is."""

    def standing(self) -> Standing:
        """See :meth:`Reader.standing`."""
        return self._standing

    def wait(self, timeout_s: float, stopped: Callable[[float], bool]) -> bool:
        """See :meth:`Reader.wait`. Wakes when the system tells of a change."""
        if self._standing.lag:  # what is not settled is looked at again when it may be
            return plain_wait(min(timeout_s, max(self._options.settle_s, 0.05)), stopped)
        if self._watch is None:
            self._watch = _Watch(self._root)
        return self._watch.wait(timeout_s, stopped)

    def close(self) -> None:
        """See :meth:`Reader.close`."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    # ----------------------------------------------------------------------------------------

    def _files(self) -> Iterator[tuple[str, str, bool]]:
        """Path, state, and whether the name can be kept, of every file; hidden ones too."""
        for directory, _, names in os.walk(self._root):
            for name in sorted(names):
                full = f"{directory}/{name}"
                state = _state(full)
                if state:
                    path = full[len(str(self._root)) + 1 :]
                    yield path, state, _keepable(path)

    def _settled(self, path: str, state: str, now_us: int) -> bool:
        settle_us = self._options.settle_s * 1e6
        written_us = int(state.split(":")[1]) / 1e3
        if settle_us == 0 or settle_us <= now_us - written_us:
            return True
        known = self._since.get(path)
        if known is None or known[0] != state:
            self._since[path] = (state, now_us)
            return False
        return now_us - known[1] >= settle_us

    def _check(self, chosen: list[str], states: dict[str, str]) -> None:
        """Raises NotReady ``source.unsettled`` where a file has changed since it was looked at."""
        for path in chosen:
            if _state(f"{self._root}/{path}") != states[path]:
                raise NotReady("source.unsettled", f"{path} changed while it was read.")

    def _stand(self, waiting: int, odd: int) -> None:
        notes = [f"{waiting} files are being written"] if waiting else []
        notes += [f"{odd} files have names that cannot be kept"] if odd else []
        self._standing = Standing(lag=waiting, note="; ".join(notes))

    def _path(self, path: str) -> str:
        return f"{self._options.into}{path}"


def _state(path: str) -> str:
    """Size, times of change in nanoseconds, and inode; '' for what is no file (any more)."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path for each file costs more than the call
    except OSError:
        return ""
    if not stat.S_ISREG(found.st_mode):
        return ""
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_ino}"


def _keepable(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return not any(ord(character) < 32 or ord(character) == 127 for character in path)


def _told(put: int, gone: int) -> str:
    said = [f"{put:,} file{'' if put == 1 else 's'}"] if put else []
    return ", ".join([*said, *([f"{gone:,} gone"] if gone else [])])


class _Watch:
    """Wakes when the system tells of a change below a directory (watchfiles); else only in time."""

    def __init__(self, root: Path) -> None:
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        with suppress(ImportError):
            self._begin(root)

    def wait(self, timeout_s: float, stopped: Callable[[float], bool]) -> bool:
        if self._thread is None:
            return plain_wait(timeout_s, stopped)
        deadline = time.monotonic() + timeout_s
        while (rest_s := deadline - time.monotonic()) > 0:
            if stopped(0):
                return True
            if self._changed.wait(min(rest_s, 0.2)):
                self._changed.clear()
                return stopped(0)
        return stopped(0)

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _begin(self, root: Path) -> None:
        import watchfiles  # noqa: PLC0415 - for those alone who watch

        def follow() -> None:
            with suppress(OSError):  # the directory went: the reader says so
                for _ in _changes(watchfiles, root, self._stop):
                    self._changed.set()
            self._changed.set()

        self._thread = threading.Thread(target=follow, name="clew-watch-files", daemon=True)
        self._thread.start()


def _changes(watchfiles: Any, root: Path, stop: threading.Event) -> Iterator[object]:
    yield from watchfiles.watch(
        root, watch_filter=None, stop_event=stop, debounce=100, rust_timeout=500
    )
