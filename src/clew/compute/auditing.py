"""What user code reads without having declared it, noted while it runs: files, environment
variables, the clock, randomness, the network, other programs.

Runs in worker processes only, on the standard library alone; knows nothing of jobs. An audit hook
cannot be taken away again, so there is one for the life of a process, and it does nothing while no
user code runs. See design/0023.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import lru_cache, wraps
from inspect import isgenerator
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from clew.compute.chance import Chance, watch_chance
from clew.compute.foreign_reads import watch_readers

Kind = Literal["file", "env", "clock", "random", "network", "program"]
Read = tuple[str, str, str]
"""Kind, what was read, and where in the user's code (``a.py:12``; '' where nobody can say)."""

MOST = 20
"""So many different reads of a datum are kept."""

_SYSTEM = (
    "/proc/",
    "/sys/",
    "/dev/",
    "/lib/",
    "/lib64/",
    "/usr/lib/",
    "/usr/local/lib/",
    "/usr/share/ca-certificates/",
    "/usr/share/fonts/",
    "/usr/share/locale",
    "/usr/share/mime/",
    "/usr/share/zoneinfo",
    *(
        f"/etc/{name}"
        for name in ("fonts/", "gai.conf", "host.conf", "hosts", "ld.so", "localtime")
    ),
    *(f"/etc/{name}" for name in ("mime.types", "nsswitch.conf", "os-release", "pki/")),
    *(f"/etc/{name}" for name in ("resolv.conf", "services", "ssl/", "timezone")),
)
"""Where a system and its libraries look by themselves: time zones, names, certificates, fonts."""

_CACHES = ("/matplotlib/", "/fontconfig/", "/__pycache__/")
_GOES_BETWEEN = ("<frozen os>", "<frozen _collections_abc>", os.__file__)
_IMPORTING = "<frozen importlib"
_TRACKS = f"{os.sep}site-packages{os.sep}mlflow{os.sep}"
"""MLflow reads the machine and asks its server; no result depends on it."""
_NAMES_WITH_CHANCE = frozenset(
    {"tempfile", "importlib._bootstrap", "multiprocessing.process", "multiprocessing.connection"}
    | {"concurrent.futures.process", "asyncio.base_events", "threading"}
)
"""Modules that name things by chance; no result depends on it."""

_SEEDS = ("seed", "random_state")
"""What libraries call the seed that they were given."""

_CODE = (".py", ".pyc", ".so", ".pyd", ".pth", ".egg-link")
_METADATA = (".dist-info", ".egg-info")

_MINE = str(Path(__file__).parents[1]) + os.sep
_LISTENING = tuple(
    str(Path(__file__).with_name(name)) for name in ("auditing.py", "chance.py", "foreign_reads.py")
)
"""What stands between the user's code and what it calls, to hear of it."""

_OUTBOX = "clew-"
"""Threads of Clew itself begin with this name."""


class Watch:
    """Reads of the user's code of one project, with what it may read without a word.

    ``allow`` silences: a kind (``clock``), or a kind with a pattern (``file:/data/**``,
    ``env:HOME``, ``network:*.example.com``), or ``*``. ``declared`` are names that a key depends
    on already (``env:REGION``, paths of the project); ``places`` are directories of Clew itself.
    """

    def __init__(
        self,
        snapshot_dir: str,
        *,
        allow: Iterable[str] = (),
        declared: Iterable[str] = (),
        places: Iterable[str] = (),
    ) -> None:
        self._project = _directory(snapshot_dir)
        self._allow = tuple(allow)
        self._declared = frozenset(declared)
        self._quiet = (*_LIBRARIES, *(_directory(place) for place in places if place))
        self._found: dict[tuple[str, str], str] = {}
        self._judged: dict[str, bool] = {}
        self._wrote: set[str] = set()
        self._since = time.time()
        self._chance = Chance()

    # what a worker does -------------------------------------------------------------------

    @contextmanager
    def on(self) -> Iterator[None]:
        """What happens inside is the user's code."""
        _install()
        before = _State.watch
        _State.watch = self
        try:
            yield
        finally:
            _State.watch = before

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, watched; so is what a generator does as it is read."""
        _install()

        @wraps(function)
        def watched(*arguments: Any, **named: Any) -> Any:
            before, _State.watch = _State.watch, self
            try:
                value = function(*arguments, **named)
            finally:
                _State.watch = before
            return self._reading(value) if isgenerator(value) else value

        return watched

    def _reading(self, values: Any) -> Any:
        while True:
            with self.on():
                try:
                    value = next(values)
                except StopIteration:
                    return
            yield value

    def begin(self) -> None:
        """A datum begins."""
        self._chance.begin()

    def take(self, *, thorough: bool) -> list[Read]:
        """What was read since the last time, each thing once.

        ``thorough``: also look whether numbers were drawn from shared generators that were not
        seeded since :meth:`begin`; it costs some microseconds.
        """
        for name in self._chance.drawn() if thorough else ():
            self.note("random", name)
        if not self._found:
            return []
        found = [(kind, name, where) for (kind, name), where in self._found.items()]
        self._found.clear()
        return found

    # what is heard ------------------------------------------------------------------------

    def note(self, kind: str, name: str, where: str = "") -> None:
        """Keep a read, if nobody said that it may be."""
        key = (kind, name)
        if key in self._found or len(self._found) >= MOST or self.may(kind, name):
            return
        self._found[key] = where

    def may(self, kind: str, name: str) -> bool:
        """Whether somebody said that this may be read."""
        if f"{kind}:{name}" in self._declared:
            return True
        return any(one in ("*", kind) or fnmatchcase(f"{kind}:{name}", one) for one in self._allow)

    def noted_by_user(self, kind: str, name: str, depth: int = 2) -> None:
        """Keep a read whose caller is the user's own code, not a library."""
        frame: FrameType | None = sys._getframe(depth)
        while frame is not None and frame.f_code.co_filename in _GOES_BETWEEN:
            frame = frame.f_back
        if frame is not None and frame.f_code.co_filename.startswith(self._project):
            self.note(kind, name, self.place(frame))

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit event while user code runs."""
        if threading.current_thread().name.startswith(_OUTBOX):
            return
        if event == "import":
            self._chance.imported()
        elif event == "open":
            self._opened(arguments[0], arguments[2])
        elif event in ("os.listdir", "os.scandir"):
            self.file(arguments[0] if arguments[0] is not None else ".", directory=True)
        elif event == "sqlite3.connect":
            if isinstance(arguments[0], str) and not arguments[0].startswith(":"):
                self.file(arguments[0])
        elif event in ("socket.connect", "socket.sendto"):
            self._network(arguments[1])
        elif event == "socket.getaddrinfo":
            self._network(arguments[0])
        elif event == "subprocess.Popen":
            self._program(arguments[0], arguments[1])
        elif event in ("os.system", "os.posix_spawn"):
            self._program(arguments[0], ())

    def _opened(self, path: Any, flags: Any) -> None:
        if isinstance(path, int):
            return
        flags = flags if isinstance(flags, int) else 0
        if flags & (os.O_CREAT | os.O_TRUNC) or flags & os.O_ACCMODE == os.O_WRONLY:
            self._wrote.add(_absolute(path))
        if flags & os.O_ACCMODE != os.O_WRONLY and not flags & os.O_TRUNC:
            self.file(path)

    def file(self, path: Any, *, directory: bool = False) -> None:
        """A file (or what is in a directory) is read."""
        if isinstance(path, int):
            return  # an open descriptor: its opening was heard
        place = _absolute(path)
        if place == "/dev/urandom":
            self.noted_by_user("random", place, 3)
            return
        if self._judged.get(place) or not self._counts(place, directory=directory):
            self._judged[place] = True
            return
        frame = self._reader()
        if frame is not False:
            self.note("file", place, self.place(frame))

    def _counts(self, place: str, *, directory: bool) -> bool:
        """Whether reading a file has to be declared at all."""
        if place in self._wrote or place.startswith((*self._quiet, *_SYSTEM)):
            return False
        here = _directory(".")
        if any(part in place for part in _CACHES) or f"{place}/" == here:
            return False
        if place.startswith((self._project, here)):
            return self._counts_in_project(place, directory=directory)
        if _is_of_import(place, directory=directory):
            return False
        try:
            return Path(place).stat().st_mtime < self._since  # made since: a file of our own
        except OSError:
            return True  # that it is missing is something that was read, too

    def _counts_in_project(self, place: str, *, directory: bool) -> bool:
        name = place.removeprefix(self._project)
        is_code = name.endswith((".py", ".pyc", ".so"))
        return name != place and not directory and not is_code and name not in self._declared

    def _network(self, address: Any) -> None:
        if isinstance(address, tuple) and address:
            host = str(address[0])
        elif isinstance(address, str | bytes):
            host = os.fsdecode(address)
        else:
            return
        frame = self._reader()
        if frame is not False and host:
            self.note("network", host, self.place(frame))

    def _program(self, executable: Any, arguments: Any) -> None:
        frame = self._reader()
        if not frame:
            return
        first = arguments[0] if isinstance(arguments, list | tuple) and arguments else arguments
        name = executable or first
        if isinstance(name, str | bytes | os.PathLike):
            self.note("program", os.fsdecode(name).split()[0], self.place(frame))

    def _reader(self) -> FrameType | Literal[False] | None:
        """The user's code that reads; None where it is not on this stack, False where a library
        only reads because it is imported, or because it notes what is trained, or Clew itself.
        """
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            name = frame.f_code.co_filename
            if name.startswith(self._project):
                return frame
            if name.startswith(_IMPORTING) or _TRACKS in name:
                return False
            if name.startswith(_MINE) and name not in _LISTENING:
                return False  # what Clew does for it is no read of its own
            frame = frame.f_back
        return None

    def owns(self, frame: FrameType) -> bool:
        """Whether that is the user's own code."""
        return frame.f_code.co_filename.startswith(self._project)

    def place(self, frame: FrameType | None) -> str:
        """The line of the user's code."""
        if frame is None:
            return ""
        return f"{frame.f_code.co_filename.removeprefix(self._project)}:{frame.f_lineno}"


@lru_cache(maxsize=64)
def _directory(path: str) -> str:
    return os.path.realpath(path) + os.sep


def _is_of_import(place: str, *, directory: bool) -> bool:
    """Whether that is where code is looked for: a place of ``sys.path``, code or metadata below.

    What else lies there is data as anywhere.
    """
    roots = {os.path.realpath(one) for one in sys.path if one}
    if place in roots:
        return directory or not place.endswith(os.sep)
    if not place.startswith(tuple(f"{root}{os.sep}" for root in roots)):
        return False
    return place.endswith(_CODE) or any(
        f"{kind}{os.sep}" in f"{place}{os.sep}" for kind in _METADATA
    )


# the process --------------------------------------------------------------------------------


class _State:
    """The watch whose user code runs now; at most one in a process."""

    watch: Watch | None = None
    installed = False


_EVENTS = frozenset(
    {"open", "os.listdir", "os.scandir", "sqlite3.connect", "socket.connect", "socket.sendto"}
    | {"socket.getaddrinfo", "subprocess.Popen", "os.system", "os.posix_spawn", "import"}
)

_LIBRARIES = tuple(
    dict.fromkeys(
        _directory(place)
        for place in (
            *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
            sys.prefix,
            sys.base_prefix if sys.base_prefix != "/usr" else "",
            _MINE,
        )
        if place
    )
)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    watch = _State.watch
    if watch is None or event not in _EVENTS:
        return
    _State.watch = None  # what we look up ourselves is no read of the user's
    try:
        watch.hear(event, arguments)
    finally:
        _State.watch = watch


def _user(kind: str, name: str) -> None:
    watch = _State.watch
    if watch is not None:
        watch.noted_by_user(kind, name, 3)


def _random(kind: str, name: str) -> None:
    """Randomness that nobody can seed; libraries use it for names of files and the like, too.

    A library that asks for a UUID names something, and one that was given a seed uses that.
    """
    watch = _State.watch
    if watch is None:
        return
    frame: FrameType | None = sys._getframe(2)
    named = False
    while frame is not None and frame.f_globals.get("__name__") not in _NAMES_WITH_CHANCE:
        if watch.owns(frame):
            watch.note(kind, name, watch.place(frame))
            return
        if named or _TRACKS in frame.f_code.co_filename or _is_seeded(frame):
            return
        named = frame.f_globals.get("__name__") == "uuid"
        frame = frame.f_back


def _is_seeded(frame: FrameType) -> bool:
    """Whether a function of a library was given a seed."""
    asked = frame.f_code.co_varnames[: frame.f_code.co_argcount + frame.f_code.co_kwonlyargcount]
    return any(name in asked and frame.f_locals.get(name) is not None for name in _SEEDS)


def _native(path: Any) -> None:
    watch = _State.watch
    if watch is not None and isinstance(path, str | os.PathLike):
        text = os.fspath(path)
        if "://" in text:
            watch.note("network", text.partition("://")[2].partition("/")[0])
        elif not isinstance(text, bytes):
            _hear_native(watch, text)


def _hear_native(watch: Watch, text: str) -> None:
    _State.watch = None
    try:
        watch.file(text.partition("*")[0] if "*" in text else text)
    finally:
        _State.watch = watch


class _Environ(type(os.environ)):  # type: ignore[misc]  # a class of the standard library
    """The environment, that tells what the user's code asks it for."""

    def __getitem__(self, name: str) -> str:
        if _State.watch is not None:
            _user("env", name)
        value: str = super().__getitem__(name)
        return value


def _watch_clock() -> None:
    """``time.time`` and its like; ``datetime`` is of C and is found in the code instead."""
    for name in ("time", "time_ns", "localtime", "gmtime", "ctime"):
        setattr(time, name, _timed(getattr(time, name), name))


def _timed(real: Callable[..., Any], name: str) -> Callable[..., Any]:
    asks_only_without = name in {"localtime", "gmtime", "ctime"}

    @wraps(real)
    def timed(*arguments: Any) -> Any:
        if _State.watch is not None and not (asks_only_without and arguments):
            _user("clock", f"time.{name}")
        return real(*arguments)

    return timed


def _install() -> None:
    if _State.installed:
        return
    _State.installed = True
    os.environ.__class__ = _Environ
    _watch_clock()
    watch_chance(_random)
    watch_readers(_native)
    sys.addaudithook(_hear)


def _absolute(path: Any) -> str:
    return os.path.realpath(os.fsdecode(path))


# batches ------------------------------------------------------------------------------------

_LONG_S = 0.005
"""After a datum that took so long, shared generators are looked at; else after its batch."""

_IMPORTS: dict[tuple[str, str], list[Read]] = {}
"""What modules read as they were imported, once in the life of the process, by project and file."""


class Witness:
    """A :class:`Watch` over the datums of a batch."""

    def __init__(
        self,
        snapshot_dir: str,
        *,
        allow: Iterable[str] = (),
        declared: Iterable[str] = (),
        store: str = "",
    ) -> None:
        self._snapshot_dir = snapshot_dir
        self._store = store
        self._first: list[Read] = []
        self._watch = Watch(snapshot_dir, allow=allow, declared=declared, places=(store,))
        self.around = self._watch.around

    @contextmanager
    def importing(self, file: str) -> Iterator[None]:
        """The user's file is imported inside, if it was not before."""
        known = _IMPORTS.get((self._snapshot_dir, file))
        watch = Watch(self._snapshot_dir, places=(self._store,))
        with watch.on():
            yield
        if known is None:
            known = _IMPORTS[self._snapshot_dir, file] = watch.take(thorough=False)
        self._first = [one for one in known if not self._watch.may(one[0], one[1])]
        self._watch.begin()

    def all(self) -> list[Read]:
        """What one long call read, with what the import did."""
        return self.of(_LONG_S, last=True)

    def of(self, duration_s: float, last: bool) -> list[Read]:
        """What the datum that has just ended read; the first tells what the import did."""
        found = self._watch.take(thorough=last or duration_s > _LONG_S)
        if self._first:
            found, self._first = [*self._first, *found], []
        return found
