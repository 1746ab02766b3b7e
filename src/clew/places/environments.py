"""Environments of steps: resolved once, built once, shared by all, swept when nobody needs them.

Knows directories and locks; how uv is spoken to is for ``uv``. An environment holds what its step
asked for and nothing of Clew. What Clew's worker needs lies apart and comes last on the path, so
that the user's pins always win. Several processes may share the directory.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from msgspec import Struct

from clew.base.errors import Invalid
from clew.base.ids import new_id
from clew.places.pip import make_by_pip
from clew.places.uv import Interpreter, compile_lock, find_python, install_apart, make_environment
from clew.store import digest_of

VARIABLE = "CLEW_ENVIRONMENTS"
"""Tells processes that Clew starts where environments are."""

WORKER = "clew.compute.worker"
KEEP_S = 7 * 24 * 3600.0
"""So long an environment that no pipeline names stays, for those that come back to it."""

_LEAN = ("blake3", "msgspec", "numpy", "zstandard")
"""What Clew's worker imports besides the standard library."""

_LEAN_IF_HERE = ("obstore", "typing_extensions")
_LOCKED = re.compile(r"^([A-Za-z0-9][\w.\-]*)(?:\[[^\]]*\])?\s*(?:==|@)\s*([^\s;\\]+)", re.M)
_START = '''\
"""Starts a module of Clew in an environment that has nothing of Clew; written by Clew."""
import runpy
import sys

sys.path.append(sys.argv.pop(1))
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
'''


class Resolved(Struct, frozen=True, kw_only=True):
    """What requirements mean: exact versions. ``packages`` has ``python`` among them."""

    lock: str
    packages: dict[str, str]

    @property
    def digest(self) -> str:
        """What counts for results."""
        return digest_of("env", self.packages)


class Environments:
    """The environments below a directory. Thread-safe."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @classmethod
    def at_hand(cls) -> Environments:
        """Those of the workspace that started this process, else those of the user."""
        given = os.environ.get(VARIABLE)
        if given:  # first: a user without a home has no caches
            return cls(Path(given))
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return cls(Path(caches, "clew", "environments"))

    def resolve(self, requirements: Sequence[str], python: str, project: Path) -> Resolved:
        """Exact versions for requirements, as the index has them now.

        Raises:
            Invalid: ``environment.python``, ``environment.unsatisfiable``,
                ``environment.requirements``.
            Unavailable: ``environment.no_uv``, ``environment.offline``.
        """
        interpreter = find_python(python)
        lock = compile_lock(requirements, interpreter, project)
        packages = {name.lower(): version for name, version in _LOCKED.findall(lock)}
        if "clew" in packages:
            raise Invalid(
                "environment.requirements",
                "The requirements bring Clew into the environment of a step.",
                hint="Leave it out: Clew's worker runs there by itself.",
            )
        return Resolved(
            lock=lock, packages=dict(sorted({**packages, "python": interpreter.minor}.items()))
        )

    def worker(self, lock: str, python: str, module: str = WORKER) -> tuple[str, ...]:
        """How a worker is started in the environment of a lock; built where it is not there.

        ``module``: what of Clew is run there in place of a worker.

        Raises:
            Invalid: ``environment.python``.
            Unavailable: ``environment.no_uv``, ``environment.offline``, ``environment.build``.
        """
        interpreter = find_python(python)
        lean = self._lean(interpreter)
        place = self._built(lock, interpreter)
        start = str(lean / "start.py")
        own = str(place / "bin" / "python")
        return (own, "-P", "-s", "-X", "faulthandler", start, str(lean), module)

    def bake(self, lock: str, python: str) -> Path:
        """Build the environment of a lock by pip, for those who may not write here later.

        Raises:
            Invalid: ``environment.python``.
            Unavailable: ``environment.build``.
        """
        interpreter = find_python(python)
        self._lean(interpreter)
        return self._built(lock, interpreter, by_pip=True)

    def programs(self, lock: str, python: str) -> Path:
        """The directory of the programs of an environment; built where it is not there."""
        return self._built(lock, find_python(python)) / "bin"

    def collect(self, locks: Collection[tuple[str, str]], *, keep_s: float = KEEP_S) -> list[str]:
        """Remove environments that no (lock, python) of ``locks`` means and that nobody has used
        for ``keep_s``; their names. One that is being built stays.
        """
        kept = set()
        for lock, python in locks:
            with suppress(Invalid):  # that Python is gone, and what was made with it of no use
                kept.add(self._name(lock, find_python(python)))
        gone = []
        for place in sorted(self._directory.glob("env-*")):
            if place.name in kept or time.time() - place.stat().st_mtime < keep_s:
                continue
            with self._locked(place.name, wait=False) as held:
                if held and place.is_dir():
                    aside = place.with_name(f"new-{place.name}.gone")
                    place.rename(aside)  # no half of it can be found under its name
                    shutil.rmtree(aside, ignore_errors=True)
                    gone.append(place.name)
        self._sweep(keep_s)
        return gone

    def _sweep(self, keep_s: float) -> None:
        """Remove what processes that were killed have left half made."""
        for left in self._directory.glob("new-*"):
            name = left.name.removeprefix("new-").partition(".")[0]
            with suppress(OSError), self._locked(name, wait=False) as held:
                if held and time.time() - left.stat().st_mtime >= keep_s:
                    shutil.rmtree(left, ignore_errors=True)

    def _built(self, lock: str, interpreter: Interpreter, *, by_pip: bool = False) -> Path:
        name = self._name(lock, interpreter)
        place = self._directory / name
        if not place.is_dir():
            with self._making(name) as making:
                if making is not None:
                    make = make_by_pip if by_pip else make_environment
                    make(making, lock, interpreter)
        with suppress(PermissionError):  # of an image: nothing is swept there
            os.utime(place)
        return place

    def _lean(self, interpreter: Interpreter) -> Path:
        """What Clew's worker needs under an interpreter, and the file that starts it."""
        own = interpreter.tag == sys.implementation.cache_tag
        versions = {name: _version(name) for name in (*_LEAN, *_LEAN_IF_HERE)}
        ours = Path(__file__).parents[1]
        identity = [interpreter.tag, own, str(ours), versions, _START]
        name = f"lean-{digest_of('lean', identity).partition(':')[2][:24]}"
        place = self._directory / name
        if place.is_dir():
            return place
        wanted = [*_LEAN, *(one for one in _LEAN_IF_HERE if versions[one])]
        with self._making(name) as making:
            if making is not None:
                making.mkdir()
                if own:
                    _link(making, wanted)
                else:
                    install_apart(making, wanted, interpreter)
                (making / "clew").symlink_to(ours)
                (making / "start.py").write_text(_START)
        return place

    def _name(self, lock: str, interpreter: Interpreter) -> str:
        identity = [lock, interpreter.path, list(interpreter.version)]
        return f"env-{digest_of('env', identity).partition(':')[2][:32]}"

    @contextmanager
    def _making(self, name: str) -> Iterator[Path | None]:
        """A place to make ``name`` in, which appears under it when all is well; None where another
        process has made it meanwhile. What one that died has left there is gone.
        """
        place = self._directory / name
        self._directory.mkdir(parents=True, exist_ok=True)
        with self._locked(name, wait=True):
            if place.is_dir():
                yield None
                return
            for left in self._directory.glob(f"new-{name}.*"):
                shutil.rmtree(left, ignore_errors=True)
            # Its own name: the uv of a process that was killed may still be writing into another
            making = self._directory / f"new-{name}.{new_id()}"
            try:
                yield making
                making.rename(place)
            finally:
                shutil.rmtree(making, ignore_errors=True)

    @contextmanager
    def _locked(self, name: str, *, wait: bool) -> Iterator[bool]:
        """Hold the name for this process and thread; the system lets go when the process dies."""
        file = os.open(self._directory / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            yield _lock(file, wait)
        finally:
            os.close(file)


def _lock(file: int, wait: bool) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _link(place: Path, names: Sequence[str]) -> None:
    """The modules of this process's own environment, by links: the same versions, no network."""
    for name in names:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            continue
        origin = Path(spec.origin)
        source = origin.parent if spec.submodule_search_locations else origin
        (place / source.name).symlink_to(source)
        libraries = source.with_name(f"{name}.libs")
        if libraries.is_dir():
            (place / libraries.name).symlink_to(libraries)
