"""uv as a program: which interpreters there are, what requirements mean, an environment made.

Knows uv's command line and its words; where environments are kept is for ``environments``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module, metadata
from pathlib import Path

from msgspec import Struct

from clew.base.errors import ClewError, Invalid, Unavailable

_OURS = {
    "UV_PYTHON_DOWNLOADS": "never",
    "UV_COMPILE_BYTECODE": "1",
    "UV_NO_PROGRESS": "1",
    "NO_COLOR": "1",
}
_NOT_OURS = frozenset(
    {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "UV_PYTHON"}
)
_OFFLINE = (
    "error sending request",
    "failed to fetch",
    "dns error",
    "client error",
    "no connection",
    "network",
    "timed out",
)
_CONSTRAINED = ("blake3", "msgspec", "zstandard")
_ASK = "import sys; print(*sys.version_info[:3], sys.implementation.cache_tag, sys.base_prefix)"
MINIMUM = (3, 11)


class Interpreter(Struct, frozen=True, kw_only=True):
    """A Python on this machine. ``tag`` is that of its bytecode: ``cpython-312``."""

    path: str
    version: tuple[int, int, int]
    tag: str

    @property
    def minor(self) -> str:
        """``3.12``."""
        return f"{self.version[0]}.{self.version[1]}"


def find_uv() -> str:
    """The program uv: of this environment, else of the PATH.

    Raises:
        Unavailable: ``environment.no_uv``.
    """
    try:
        return str(import_module("uv").find_uv_bin())
    except (ImportError, FileNotFoundError, AttributeError):
        pass
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise Unavailable(
            "environment.no_uv",
            "A step with requirements= or python= needs uv, which is not installed here.",
            hint="pip install uv (in the environment of Clew), or leave requirements= out.",
        )
    return found


def find_python(wanted: str) -> Interpreter:
    """The interpreter of a version (``3.12``), at a path, or that of this process ('').

    Nothing is downloaded.

    Raises:
        Invalid: ``environment.python`` naming those that are here.
    """
    if not wanted or wanted == f"{sys.version_info.major}.{sys.version_info.minor}":
        return _inspect(sys.executable, wanted)
    return _inspect(wanted, wanted) if wanted.startswith("/") else _search(wanted)


@lru_cache(maxsize=32)
def _search(wanted: str) -> Interpreter:
    """What uv finds for a version: it may look at many, so once in a process is enough."""
    found = _run([find_uv(), "python", "find", "--system", "--no-project", wanted])
    path = found.stdout.strip()
    if found.returncode or not path:
        raise _no_python(f"There is no Python {wanted} on this machine")
    return _inspect(path, wanted)


def interpreters() -> list[str]:
    """Versions of all that uv finds here, with their paths."""
    found = _run([find_uv(), "python", "list", "--only-installed", "--no-config"])
    return [" ".join(line.split()[:2]) for line in found.stdout.splitlines() if line.strip()]


def compile_lock(requirements: Sequence[str], python: Interpreter, directory: Path) -> str:
    """Exact versions with hashes for requirements, as a requirements file. Asks the index.

    Paths among the requirements are relative to ``directory``.

    Raises:
        Invalid: ``environment.unsatisfiable`` or ``environment.requirements``, with uv's words.
        Unavailable: ``environment.offline``, ``environment.no_uv``.
    """
    if not requirements:
        return ""
    with tempfile.TemporaryDirectory(prefix="clew-lock-") as place:
        limits = Path(place, "constraints.txt")
        limits.write_text("".join(f"{line}\n" for line in needs(_CONSTRAINED)))
        wanted = Path(place, "requirements.txt")
        wanted.write_text("".join(f"{line}\n" for line in requirements))
        line = [
            find_uv(), "pip", "compile", str(wanted), "--quiet", "--python", python.path,
            "--constraint", str(limits), "--generate-hashes", "--no-header", "--no-annotate",
        ]  # fmt: skip
        if any(one.startswith("-") for one in requirements):
            line += ["--emit-index-url", "--emit-find-links"]
        found = _run(line, directory)
        if found.returncode:
            raise _refused(requirements, found.stderr.replace(f"{place}/", ""), python)
    closed = "--no-index\n" if "--no-index" in requirements else ""
    return closed + found.stdout


def make_environment(place: Path, lock: str, python: Interpreter) -> None:
    """A virtual environment at ``place`` with exactly what ``lock`` says, compiled.

    Raises:
        Invalid, Unavailable: as :func:`compile_lock`; ``environment.build``.
    """
    made = _run([
        find_uv(), "venv", "--quiet", "--no-project", "--relocatable", "--python", python.path,
        str(place),
    ])  # fmt: skip
    if made.returncode:
        raise _broken(made.stderr)
    if lock.strip():
        file = place / "clew-lock.txt"
        file.write_text(lock)
        _install(["sync", "--python", str(place / "bin" / "python"), "--strict", str(file)])


def install_apart(place: Path, names: Sequence[str], python: Interpreter) -> None:
    """Distributions below ``place``, outside any environment. Raises as above."""
    _install(["install", "--python", python.path, "--target", str(place), *needs(names)])


def needs(names: Sequence[str]) -> list[str]:
    """What Clew itself asks of these distributions, or their bare names."""
    try:
        required = metadata.requires("clew") or []
    except metadata.PackageNotFoundError:
        required = []
    known = {name: line for line in required for name in names if _names(line, name)}
    return [known.get(name, name) for name in names]


def _names(requirement: str, name: str) -> bool:
    rest = requirement.removeprefix(name)
    return rest != requirement and ";" not in rest and not (rest[:1].isalnum() or rest[:1] in "-_")


def _install(arguments: Sequence[str]) -> None:
    found = _run([find_uv(), "pip", arguments[0], "--quiet", *arguments[1:]])
    if found.returncode:
        raise _offline(found.stderr) or _broken(found.stderr)


def _inspect(path: str, wanted: str) -> Interpreter:
    try:
        found = _run([path, "-I", "-S", "-c", _ASK])
    except OSError as error:
        raise _no_python(f"{path} cannot be run ({error.strerror})") from error
    words = found.stdout.split(maxsplit=4)
    if found.returncode or len(words) != 5:
        raise _no_python(f"{path} is no working Python")
    version = (int(words[0]), int(words[1]), int(words[2]))
    if version[:2] < MINIMUM:
        raise _no_python(f"Python {wanted or path} is too old: Clew's worker needs 3.11 or newer")
    return Interpreter(path=path, version=version, tag=words[3])


def _run(line: Sequence[str], directory: Path | None = None) -> subprocess.CompletedProcess[str]:
    given = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
    return subprocess.run(
        line, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        env={**given, **_OURS}, cwd=directory or Path("/"),
    )  # fmt: skip


def _refused(requirements: Sequence[str], words: str, python: Interpreter) -> ClewError:
    what = ", ".join(requirements[:5]) + (", ..." if len(requirements) > 5 else "")
    if "No solution found" in words:
        return Invalid(
            "environment.unsatisfiable",
            f"No versions of {what} fit together under Python {python.minor}.",
            hint=f"uv says:\n{words.strip()}",
        )
    return _offline(words) or Invalid(
        "environment.requirements",
        f"The requirements {what} cannot be read.",
        hint=f"uv says:\n{words.strip()}",
    )


def _offline(words: str) -> ClewError | None:
    low = words.lower()
    if not any(one in low for one in _OFFLINE):
        return None
    return Unavailable(
        "environment.offline",
        "The package index cannot be reached.",
        hint="Connect, or name one that can be: UV_DEFAULT_INDEX, or UV_FIND_LINKS for a directory "
        f"of wheels. uv says:\n{words.strip()}",
    )


def _broken(words: str) -> Unavailable:
    return Unavailable(
        "environment.build",
        "The environment of the step could not be built.",
        hint=f"uv says:\n{words.strip()}",
    )


def _no_python(what: str) -> Invalid:
    try:
        here = "; ".join(interpreters())
    except ClewError:
        here = ""
    return Invalid(
        "environment.python",
        f"{what}. Clew downloads none.",
        hint=f"Install it, or choose one that is here: {here or sys.executable}.",
    )
