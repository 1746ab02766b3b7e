"""Run one program to its end: feed it, take what it says, see that nothing of it stays.

Knows nothing of datums, stores and where the program's files come from.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from clew.base.errors import Invalid

_TAIL_BYTES = 4096
_PIECE_BYTES = 256 * 1024
_KEPT = ("CLEW_POOL",)

Source = Callable[[], BinaryIO]
"""Opens content that is to be fed to a program."""


def surroundings(own: Mapping[str, str]) -> dict[str, str]:
    """The environment of this process for a program: without Clew's settings, with ``own``."""
    given = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("CLEW_") or name in _KEPT
    }
    return {**given, **own}


def run_program(
    arguments: Sequence[str],
    *,
    directory: Path,
    environment: Mapping[str, str],
    stdin: Sequence[Source] | None = None,
    pipes: Iterable[tuple[Path, Source]] = (),
    stdout: Callable[[IO[bytes]], None] | None = None,
) -> tuple[int, str]:
    """Its exit status (negative: the signal that ended it), and the end of what it printed.

    Standard output and error are those of this process; ``stdout`` reads the first of them to its
    end instead. ``stdin`` is fed, one source after another, and so is every named pipe when the
    program opens it. The program leads a process group; what it leaves running is ended.

    Raises:
        Invalid: ``step.program`` where it cannot be started. What ``stdout`` or a source raises.
    """
    before = _log_size()
    try:
        process = subprocess.Popen(
            arguments,
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=None if stdout is None else subprocess.PIPE,
            process_group=0,
        )
    except (OSError, ValueError) as error:
        raise _no_program(arguments[0], error) from error
    with _ended(process), ExitStack() as feeding:
        feeders = [_Feeder(one, path) for path, one in pipes]
        if stdin is not None:
            assert process.stdin is not None
            feeders.append(_Feeder(_one_after_another(stdin), process.stdin))
        for feeder in feeders:
            feeding.callback(feeder.end)
            feeder.start()
        if stdout is not None:
            assert process.stdout is not None
            stdout(process.stdout)
        status = process.wait()
    for feeder in feeders:
        feeder.check()
    return status, _log_tail(before)


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """At the end nothing of the process's group runs any more."""
    try:
        yield
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


class _Feeder(threading.Thread):
    """Writes a source to a pipe, by a thread, as fast as it is read."""

    def __init__(self, source: Source, target: Path | IO[bytes]) -> None:
        super().__init__(name="clew-feeder", daemon=True)
        self._source = source
        self._target = target
        self._error: BaseException | None = None

    def run(self) -> None:
        """Write it all, or as much as the reader wants."""
        try:
            target = (
                self._target.open("wb", buffering=0)
                if isinstance(self._target, Path)
                else self._target
            )
            with target, self._source() as source:
                while piece := source.read(_PIECE_BYTES):
                    _write(target, piece)
        except BrokenPipeError:
            return  # the program has read what it wanted
        except Exception as error:  # noqa: BLE001 - told by check, on the thread that waits
            self._error = error

    def end(self) -> None:
        """Return when nothing is written any more, also to a pipe that nobody has opened."""
        while self.is_alive():
            if isinstance(self._target, Path):
                with suppress(OSError):
                    os.close(os.open(self._target, os.O_RDONLY | os.O_NONBLOCK))
            self.join(0.05)

    def check(self) -> None:
        """Raise what kept the source from being read."""
        if self._error is not None:
            raise self._error


def _write(target: IO[bytes], piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[target.write(view) or 0 :]


def _one_after_another(sources: Sequence[Source]) -> Source:
    return lambda: _Chain(sources)  # type: ignore[return-value]  # reads, and that is all it must


class _Chain:
    """Several sources as one."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._left = list(sources)
        self._now: BinaryIO | None = None

    def __enter__(self) -> _Chain:
        return self

    def __exit__(self, *_: object) -> None:
        if self._now is not None:
            self._now.close()

    def read(self, size: int) -> bytes:
        while True:
            if self._now is None:
                if not self._left:
                    return b""
                self._now = self._left.pop(0)()
            if piece := self._now.read(size):
                return piece
            self._now.close()
            self._now = None


def told(program: str, status: int, said: str, accepted: Sequence[int]) -> Invalid:
    """The error of a program that ended with a status that is no success."""
    how = f"was killed by {_signal(-status)}" if status < 0 else f"ended with exit code {status}"
    wanted = "" if tuple(accepted) == (0,) else f" ({', '.join(map(str, accepted))} would be good)"
    hint = f"Its last words:\n{said.strip()}" if said.strip() else "It printed nothing."
    return Invalid("step.exit", f"{program} {how}{wanted}.", hint=hint)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _no_program(program: str, error: Exception) -> Invalid:
    if isinstance(error, PermissionError):
        return Invalid(
            "step.program",
            f"{program} may not be run: it is no program, or not executable.",
            hint=f'Begin the file with #!, or name what runs it: ["sh", "{program}"].',
        )
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return Invalid(
        "step.program",
        f"There is no program {program!r} to run: {reason}.",
        hint="Install it on the machine of the workers, or name it as it stands in the project.",
    )


def _log_size() -> int:
    """How much has been printed; 0 where standard error is no file."""
    try:
        return os.fstat(2).st_size
    except OSError:
        return 0


def _log_tail(since: int) -> str:
    """The end of what has been printed since then; '' where standard error is no file."""
    try:
        size = os.fstat(2).st_size
        start = max(since if size >= since else 0, size - _TAIL_BYTES)
        return os.pread(2, size - start, start).decode(errors="replace")
    except OSError:
        return ""
