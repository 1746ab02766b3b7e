"""What a program is closed off from: nothing, all but its files (a sandbox), or the whole system
(an image).

Knows command lines of bubblewrap; what makes the root of an image is told. It is against accidents
and undeclared reads, not against an attacker with the kernel's next hole.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from clew.base.errors import Unavailable
from clew.base.untold import UNTOLD
from clew.places.definitions import RuntimeDefinition
from clew.places.images import Root, root_of
from clew.places.layout import Layout

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt")
_MADE = frozenset({"proc", "dev", "sys", "tmp", "pfs", "work", "project"})
"""What an enclosure has of its own at the top."""

_NAMES = ("PATH", "LANG", "LANGUAGE", "TZ", "TERM")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")


class Enclosure(Protocol):
    """How the program of one datum is started, and under which names it sees its files."""

    @property
    def closed(self) -> bool:
        """Whether the program gets only those variables that :meth:`wrap` hands over."""
        ...

    def path(self, place: Path) -> str:
        """How the program calls a place of its layout."""
        ...

    def variables(self) -> dict[str, str]:
        """Environment variables that come with it."""
        ...

    def wrap(self, arguments: Sequence[str], variables: Mapping[str, str]) -> list[str]:
        """The command line that runs ``arguments`` inside."""
        ...


def enclosure_of(
    runtime: RuntimeDefinition, layout: Layout, project: Path, store: str, programs: Path | None
) -> Enclosure:
    """The enclosure for one datum. ``store`` is hidden, ``programs`` comes first on the PATH.

    Raises:
        Unavailable: ``sandbox.missing``, ``image.no_runtime``, ``image.missing``.
    """
    if runtime.image:
        root = root_of(runtime.image, runtime.pinned)
        return _Inside(runtime, layout, project, store, programs, root)
    if runtime.sandbox:
        return _Inside(runtime, layout, project, store, programs, None)
    return _Outside(runtime, layout, programs)


def require_sandbox() -> None:
    """Raise Unavailable ``sandbox.missing`` where programs cannot be closed off: it is tried."""
    line = [bubblewrap(), "--unshare-all", "--ro-bind", "/", "/", "true"]
    tried = subprocess.run(line, capture_output=True, text=True, check=False)
    if tried.returncode:
        raise Unavailable(
            "sandbox.missing",
            f"bubblewrap cannot make a sandbox on this machine: {tried.stderr.strip()}",
            hint="Allow user namespaces (sysctl kernel.unprivileged_userns_clone=1), work as root, "
            "or leave sandbox= out.",
        )


def bubblewrap() -> str:
    """The program that makes sandboxes. Raises Unavailable ``sandbox.missing``."""
    found = shutil.which("bwrap")
    if found is None:
        raise Unavailable(
            "sandbox.missing",
            "A sandbox needs bubblewrap, and there is no program bwrap on this machine.",
            hint="Install it (apt install bubblewrap), or leave sandbox= out.",
        )
    return found


class _Outside:
    """No enclosure: the program sees what the worker sees."""

    closed = False

    def __init__(self, runtime: RuntimeDefinition, layout: Layout, programs: Path | None) -> None:
        self._runtime = runtime
        self._layout = layout
        self._programs = programs

    def path(self, place: Path) -> str:
        return str(place)

    def variables(self) -> dict[str, str]:
        found = {"TMPDIR": str(self._layout.tmp), **_threads(self._runtime)}
        if self._programs is not None:
            found["PATH"] = _with_first(self._programs)
        return found

    def wrap(self, arguments: Sequence[str], variables: Mapping[str, str]) -> list[str]:  # noqa: ARG002 - part of the Protocol
        return list(arguments)


class _Inside:
    """Files of the datum at ``/pfs``, a ``/tmp`` of its own, and a system that stays as it is."""

    closed = True

    def __init__(
        self,
        runtime: RuntimeDefinition,
        layout: Layout,
        project: Path,
        store: str,
        programs: Path | None,
        root: Root | None,
    ) -> None:
        self._runtime = runtime
        self._layout = layout
        self._project = project
        self._store = store
        self._programs = programs
        self._root = root

    def path(self, place: Path) -> str:
        for outside, inside in (
            (self._layout.inputs, "/pfs"),
            (self._layout.out, "/pfs/out"),
            (self._layout.work, "/work"),
            (self._layout.tmp, "/tmp"),  # noqa: S108 - that of the sandbox
            (self._project, "/project"),
        ):
            if place.is_relative_to(outside):
                return str(Path(inside, place.relative_to(outside)))
        return str(place)

    def variables(self) -> dict[str, str]:
        return {"HOME": "/tmp", "TMPDIR": "/tmp", **_threads(self._runtime)}  # noqa: S108 - inside of the sandbox

    def wrap(self, arguments: Sequence[str], variables: Mapping[str, str]) -> list[str]:
        line = [bubblewrap(), "--die-with-parent", "--unshare-all", "--cap-drop", "ALL"]
        if self._runtime.network:
            line.append("--share-net")
        line += self._system() if self._root is None else self._image(self._root)
        line += ["--proc", "/proc", "--dev", "/dev"]
        line += ["--clearenv"]
        for name, value in {**self._given(), **variables}.items():
            line += ["--setenv", name, value]
        return [*line, *self._places(), "--chdir", "/work", "--", *arguments]

    def _places(self) -> Iterator[str]:
        layout = self._layout
        yield from ("--bind", str(layout.tmp), "/tmp")  # noqa: S108 - inside of the sandbox
        yield from ("--tmpfs", "/pfs")
        for name in sorted(layout.inputs.iterdir()) if layout.inputs.is_dir() else ():
            yield from ("--ro-bind", str(name), f"/pfs/{name.name}")
        yield from ("--bind", str(layout.out), "/pfs/out")
        yield from ("--bind", str(layout.work), "/work")
        yield from ("--ro-bind", str(self._project), "/project")

    def _system(self) -> Iterator[str]:
        for name in _SYSTEM:
            place = Path(name)
            if place.is_symlink():
                yield from ("--symlink", str(place.readlink()), name)
            elif place.exists():
                yield from ("--ro-bind", name, name)
        for prefix in _prefixes(self._programs):
            yield from ("--ro-bind", str(prefix), str(prefix))
        if Path(self._store).is_dir() and _visible(Path(self._store), self._programs):
            yield from ("--tmpfs", self._store)

    def _image(self, root: Root) -> Iterator[str]:
        """All that is at the top of an image, read-only, so that there is room beside it."""
        for one in sorted(root.path.iterdir()):
            if one.name in _MADE:
                continue
            if one.is_symlink():
                yield from ("--symlink", str(one.readlink()), f"/{one.name}")
            else:
                yield from ("--ro-bind", str(one), f"/{one.name}")
        if self._runtime.network and (root.path / "etc" / "resolv.conf").is_file():
            yield from ("--ro-bind-try", "/etc/resolv.conf", "/etc/resolv.conf")

    def _given(self) -> dict[str, str]:
        if self._root is not None:
            return {**UNTOLD, **self._root.environment}
        found = UNTOLD | {name: os.environ[name] for name in _NAMES if name in os.environ}
        found |= {name: value for name, value in os.environ.items() if name.startswith("LC_")}
        found |= {name: os.environ[name] for name in _THREADS if name in os.environ}
        if self._programs is not None:
            found["PATH"] = _with_first(self._programs)
        return found


def _prefixes(programs: Path | None) -> list[Path]:
    """Directories outside the system's where the programs of the PATH and Python are installed."""
    wanted = [Path(sys.prefix), Path(sys.base_prefix)]
    if programs is not None:
        wanted += [programs.parent, programs.joinpath("python").resolve().parent.parent]
    for name in os.environ.get("PATH", "").split(os.pathsep):
        place = Path(name)
        if not place.is_absolute() or not place.is_dir():
            continue
        above = place.parent
        wanted.append(above if (above / "lib").is_dir() and above != Path.home() else place)
    system = [Path(one) for one in _SYSTEM]
    outside = {one for one in wanted if not any(one.is_relative_to(own) for own in system)}
    return sorted(one for one in outside if one != Path("/") and one.is_dir())


def _visible(place: Path, programs: Path | None) -> bool:
    seen = [*map(Path, _SYSTEM), *_prefixes(programs)]
    return any(place.is_relative_to(one) for one in seen)


def _with_first(programs: Path) -> str:
    return os.pathsep.join([str(programs), os.environ.get("PATH", os.defpath)])


def _threads(runtime: RuntimeDefinition) -> dict[str, str]:
    return {} if runtime.cpus is None else dict.fromkeys(_THREADS, str(runtime.cpus))
