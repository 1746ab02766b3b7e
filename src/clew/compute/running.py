"""Run one call in this process: find its function, keep its output, say how it ended.

Knows nothing of pipes and pools; its caller sees that one call runs at a time.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from clew.base.autologging import autologging
from clew.base.errors import ClewError, Conflict, NotFound
from clew.compute.call import LOG_BYTES, CallContext, CallError, Message
from clew.compute.frames import NOTHING, Done, Run, decode, encode_or_refuse
from clew.compute.snapshots import bind

_ROOM = str(Path(__file__).parent)
_C = ctypes.CDLL(None)


class Told(Exception):
    """Raised where another process has said already how the call ends: that is its error."""

    def __init__(self, error: CallError) -> None:
        super().__init__(error.message)
        self.error = error


class Context:
    """The CallContext of a call; ``say`` takes a message out and brings an answer back."""

    def __init__(
        self, call_id: str, scratch: Path, say: Callable[[msgspec.Raw, bool], object]
    ) -> None:
        self._call_id = call_id
        self._scratch = scratch
        self._say = say
        self._ended = False

    @property
    def call_id(self) -> str:
        """The id of this call."""
        return self._call_id

    @property
    def scratch(self) -> Path:
        """An empty directory, the current one; emptied when the call ends."""
        return self._scratch

    def send(self, message: Message) -> None:
        """Tell the parent."""
        self._check(message, False)

    def ask(self, message: Message) -> Message:
        """Ask the parent and wait for its answer."""
        answer = self._check(message, True)
        assert isinstance(answer, dict)
        return answer

    def end(self) -> None:
        """From now on nothing is said for this call."""
        self._ended = True

    def _check(self, message: Message, wants_answer: bool) -> object:
        if self._ended:
            raise Conflict(
                "call.ended",
                f"Call {self._call_id} has ended; nobody hears its messages.",
                hint="Join the threads that a step starts before it returns.",
            )
        raw = encode_or_refuse(message, "call.message", "The message")
        return self._say(raw, wants_answer)


class Output:
    """The file that standard output and error of this process go to, emptied for each call.

    ``descriptor`` is open for reading and appending and stays with its owner.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._streams = (self._stream(), self._stream())

    @contextlib.contextmanager
    def catching(self) -> Iterator[None]:
        """Whatever is printed goes to the file, from Python, from C and from children."""
        os.dup2(self._descriptor, 1)
        os.dup2(self._descriptor, 2)
        if self._streams[0].closed or self._streams[1].closed:
            self._streams = (self._stream(), self._stream())
        before = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = self._streams
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before

    def take(self) -> str:
        """The end of what was printed since the last time."""
        for stream in self._streams:
            if not stream.closed:
                stream.flush()
        _C.fflush(None)  # what C libraries print waits in buffers of their own
        return take_tail(self._descriptor)

    def _stream(self) -> io.TextIOWrapper:
        raw = open(self._descriptor, "wb", buffering=0, closefd=False)  # noqa: SIM115 - a descriptor, for the life of the process
        return io.TextIOWrapper(
            io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True
        )


def take_tail(descriptor: int) -> str:
    """The last 64 KiB of a file of output, which is empty afterwards."""
    size = os.fstat(descriptor).st_size
    if not size:
        return ""
    start = max(0, size - LOG_BYTES)
    text = os.pread(descriptor, size - start, start).decode(errors="replace")
    os.ftruncate(descriptor, 0)
    return f"[{start} bytes before this are not kept]\n{text}" if start else text


def run_call(run: Run, context: Context, output: Output) -> Done:
    """Run a call to its end, whatever its code does short of ending the process."""
    started = time.perf_counter()
    value, error, own = NOTHING, None, os.getpid()
    with output.catching(), _surroundings(run, context.scratch):
        try:
            with autologging(run.environment):
                value = _value(run, context)
        except BaseException as raised:  # noqa: BLE001 - the boundary with user code
            error = describe(raised, run.snapshot_dir)
        if os.getpid() != own:
            os._exit(0)  # user code forked, and its child came back here: one of them is enough
        context.end()
    return Done(value, error, time.perf_counter() - started, output.take())


def _value(run: Run, context: CallContext) -> msgspec.Raw:
    bind(run.snapshot_dir)
    function = find_entry(run.entry)
    result = function(decode(run.payload), context)
    return encode_or_refuse(result, "call.result", f"The result of {run.label!r}")


def find_entry(entry: str) -> Callable[[object, CallContext], object]:
    """The function of ``package.module:function``.

    Raises:
        NotFound: ``call.entry``. What the import of the module raises is raised.
    """
    module_name, _, name = entry.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise _no_entry(entry) from None
    function = getattr(module, name, None)
    if not callable(function):
        raise _no_entry(entry)
    found: Callable[[object, CallContext], object] = function
    return found


def _no_entry(entry: str) -> NotFound:
    return NotFound(
        "call.entry",
        f"There is no {entry!r} to call.",
        hint="Write package.module:function, importable in the worker.",
    )


@contextlib.contextmanager
def _surroundings(run: Run, scratch: Path) -> Iterator[None]:
    """Environment and current directory for a call; both are put back and scratch is emptied."""
    before = {name: os.environ.get(name) for name in run.environment}
    directory = _current_directory()
    os.environ.update(run.environment)
    scratch.mkdir(exist_ok=True)
    os.chdir(scratch)
    try:
        yield
    finally:
        os.chdir(directory or scratch)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _empty(scratch)


def _current_directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - a string is enough, and ten times faster
    except FileNotFoundError:
        return ""


def _empty(directory: Path) -> None:
    try:
        with os.scandir(directory) as found:
            entries = list(found)
    except FileNotFoundError:
        return  # user code removed it already
    if not entries:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)  # noqa: PTH108 - an entry of scandir


def describe(error: BaseException, snapshot_dir: str) -> CallError:
    """An exception as data, with the frames that its reader can mend."""
    name = type(error).__name__
    if isinstance(error, Told):
        return error.error
    if isinstance(error, ClewError):
        shown = _traceback(error, snapshot_dir) if _of_user(error, snapshot_dir) else ""
        return CallError(
            kind="clew", type=name, traceback=shown,
            message=error.message, code=error.code, hint=error.hint, family=error.kind,
        )  # fmt: skip
    text = _text_of(error)
    message = f"{name}: {text}" if text else name
    shown = _traceback(error, snapshot_dir)
    return CallError(kind="raised", type=name, message=message, traceback=shown)


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001 - a user's __str__ may raise too
        return f"(its __str__ raised {type(second).__name__})"


def _of_user(error: BaseException, snapshot_dir: str) -> bool:
    """Whether a frame of the user's files is in it: else the message says all there is to mend."""
    prefix = _prefix(snapshot_dir)
    frames = traceback.extract_tb(error.__traceback__)
    return bool(prefix) and any(frame.filename.startswith(prefix) for frame in frames)


def _prefix(snapshot_dir: str) -> str:
    return str(Path(snapshot_dir).absolute()) + "/" if snapshot_dir else ""


def _traceback(error: BaseException, snapshot_dir: str) -> str:
    shown = traceback.TracebackException.from_exception(error)
    prefix = _prefix(snapshot_dir)
    _cut(shown, prefix, set())
    text = "".join(shown.format())
    if not shown.stack:
        text = text.removeprefix("Traceback (most recent call last):\n")
    return text.replace(prefix, "") if prefix else text


def _cut(shown: traceback.TracebackException, prefix: str, seen: set[int]) -> None:
    """Keep the frames below ``prefix``, or where there are none, those that are not this room."""
    if id(shown) in seen:
        return
    seen.add(id(shown))
    own = [f for f in shown.stack if prefix and f.filename.startswith(prefix)]
    rest = [f for f in shown.stack if not f.filename.startswith((_ROOM, "<frozen importlib"))]
    if issubclass(shown.exc_type, SyntaxError):
        rest = []  # it names its file and line by itself; who imported it is not to blame
    shown.stack = traceback.StackSummary.from_list(own or rest)
    for other in (shown.__cause__, shown.__context__):
        if other is not None:
            _cut(other, prefix, seen)
