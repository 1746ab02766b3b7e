"""What a worker does with datums: load inputs, call the user's function, check and keep the result.

Runs in worker processes only. Knows no rows: it reports to the job by messages.
"""

from __future__ import annotations

import inspect
import shutil
import sys
import threading
import time
import typing
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from clew.base.errors import ClewError
from clew.base.records.policy import Failure
from clew.codecs import Place, Reader, Spark, annotations_of, dump_value, load_value, reader_of
from clew.compute import CallContext, Witness, describe_error, load_function
from clew.pipelines.definitions import PARAMETER_SET
from clew.pipelines.left_files import check_files
from clew.pipelines.programs import Programs, ProgramTask
from clew.pipelines.transcript import Transcript
from clew.places import on_cores
from clew.quality import Expectation, QualityReport, check
from clew.repos import file_of
from clew.store import Store, Writer

OURS = "clew:"

ASK_S = 0.1
"""After so long a worker asks, before a datum, whether it is still to run it."""

FLUSH_S = 0.25
"""How long finished datums may wait for their bytes to be made durable."""

FLUSH_BYTES = 64 << 20

_IDLE = 20
"""After so many looks without a call nobody looks before the next one."""

FEW_DATUMS = 16
SMALL_BYTES = 64 << 10
"""Small outputs of few datums go to the job with their reports: it flushes them with its tree."""


class Task(msgspec.Struct, frozen=True):
    """The payload of a call: a batch of datums of one step.

    ``groups`` are shared by datums: (parameter, tree, paths, whether it is a directory); the tree
    is '' where a parameter gets nothing.
    ``datums`` are pairs of the stem of the output and the numbers of the groups.
    """

    store: str
    snapshot_dir: str
    file: str
    name: str
    parameters: dict[str, Any]
    expectations: list[dict[str, Any]]
    groups: list[tuple[str, str, list[str], bool]]
    datums: list[tuple[str, list[int]]]
    objects: dict[str, bytes] = {}
    """What small inputs of few datums consist of, by digests of the store: they come along."""
    error: dict[str, str] = {}
    """Where the function is an error handler: what went wrong with the one datum."""
    program: ProgramTask | None = None
    allow: tuple[str, ...] = ()
    declared: tuple[str, ...] = ()
    cpus: int | None = None
    spark: str = ""


class Report(msgspec.Struct, frozen=True, array_like=True):
    """What became of a datum. ``state``: done, failed or refused; files: path, digest, size."""

    at: int
    state: str
    duration_s: float
    outputs: list[tuple[str, str, int]] = []
    aside: list[tuple[str, str, int]] = []
    error: str = ""
    evidence: dict[str, Any] = {}


class _Step(Struct, frozen=True, kw_only=True):
    """The user's function with all that is the same for the datums of a batch."""

    task: Task
    store: Store
    function: Callable[..., Any] = print
    annotations: Mapping[str, Any] = field(default_factory=dict)
    expectations: tuple[Expectation, ...] = ()
    program: Programs | None = None
    """In place of the function."""

    def reader(self, parameter: str) -> Reader:
        """What makes the values of a parameter."""
        return reader_of(self.annotations.get(parameter))


class _Refused(Exception):
    """The result breaks an expectation."""

    def __init__(self, report: QualityReport) -> None:
        super().__init__("; ".join(result.message for result in report.failures[:3]))
        self.evidence = evidence_of(report)


def run_datums(payload: dict[str, Any], context: CallContext) -> None:
    """Run a batch, one datum after the other; the entry of a worker call.

    Asks ``{"may": i}`` now and then, before datum ``i``, how far it may go. Sends ``{"at": i}``
    before datum ``i``, ``{"said": [[i, text], ...], "told": bytes}`` for what datums print, and
    ``{"done": [report, ...], "files": [bytes, ...]}`` for datums whose outputs are durable, but for
    these files: whoever hears it has to keep them. An error of a datum is its report; an error in
    importing the user's file ends the call.
    """
    task = msgspec.convert(payload, Task)
    witness = Witness(task.snapshot_dir, allow=task.allow, declared=task.declared, store=task.store)
    with witness.importing(task.file):
        step = _prepare(task, context.scratch)
    if task.program is None:
        step = replace(step, function=witness.around(step.function))
    room = SMALL_BYTES if len(task.datums) <= FEW_DATUMS else 0
    with on_cores(task.cpus), _Outbox(step.store, context, room) as outbox:
        for at in range(len(task.datums)):
            if not outbox.begin(at):
                break
            run = _handle if task.error else _run
            report = run(step, at, outbox, context.scratch)
            reads = witness.of(report.duration_s, at + 1 == len(task.datums))
            outbox.add(_with_reads(report, reads))


def _with_reads(report: Report, reads: list[tuple[str, str, str]]) -> Report:
    """The report, with what the datum read undeclared among its evidence."""
    if not reads:
        return report
    return msgspec.structs.replace(report, evidence={**report.evidence, "undeclared": reads})


class _Outbox:
    """Outputs and reports on their way: made durable, then told, at most ``FLUSH_S`` later.

    A thread sees to that, so that what is done does not wait for a slow datum after it.
    """

    def __init__(self, store: Store, context: CallContext, room: int) -> None:
        """``room``: how many bytes of files may go with the reports instead of into the store."""
        self._store = store
        self._writer: Writer | None = None
        """Begun with the first file that goes into the store: many a call has none."""
        self._room = room
        self._files: list[bytes] = []
        self._context = context
        self._transcript = Transcript()
        self._reports: list[Report] = []
        self._asked = time.monotonic()
        self._until = sys.maxsize
        self._size_bytes = 0
        self._lock = threading.Lock()
        self._closed = False
        self._error: ClewError | None = None

    def __enter__(self) -> _Outbox:
        _teller().watch(self)
        return self

    def __exit__(self, *_: object) -> None:
        _teller().watch(None)
        with self._lock:
            self._closed = True
            self._check()
            self._flush()

    def begin(self, at: int) -> bool:
        """Datum ``at`` begins; False where it, and all behind it, are for others by now."""
        if time.monotonic() - self._asked > ASK_S:
            self._asked = time.monotonic()
            self._until = int(str(self._context.ask({"may": at})["until"]))
        if at >= self._until:
            return False
        with self._lock:
            self._transcript.begin(at)
        self._context.send({"at": at})
        return True

    def keep(self, value: object, name: str, annotation: object) -> list[tuple[str, str, int]]:
        """Hand files over: (path, digest, bytes) of each. ``annotation``: of the result."""
        content = dump_value(value, name, annotation)
        with self._lock:
            return [(path, *self._take(one)) for path, one in content]

    def put(self, path: Path) -> tuple[str, int]:
        """Hand a small file over: digest and bytes."""
        content = path.read_bytes()
        with self._lock:
            return self._take(content)

    def _take(self, content: bytes | Path) -> tuple[str, int]:
        if isinstance(content, Path) or len(content) > self._room:
            if self._writer is None:
                self._writer = self._store.writer()
            return self._writer.put(content)
        self._room -= len(content)
        self._files.append(content)
        return Writer.digest(content), len(content)

    def add(self, report: Report) -> None:
        """A datum has ended. Raises what kept an earlier one from being stored."""
        with self._lock:
            self._check()
            self._reports.append(report)
            self._size_bytes += sum(size for _, _, size in report.outputs)
            if self._size_bytes > FLUSH_BYTES:
                self._flush()

    def tell(self) -> None:
        """Tell what is done by now. On the thread that sees to that."""
        with self._lock:
            if self._closed or self._error is not None:
                return
            try:
                self._flush()
            except ClewError as error:
                self._error = error

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _flush(self) -> None:
        if said := self._transcript.take():
            self._context.send({"said": said, "told": self._transcript.told})
        if self._reports:
            if self._writer is not None:
                self._writer.flush()
            reports = msgspec.to_builtins(self._reports)
            self._context.send({"done": reports, "files": self._files})
            self._reports, self._files, self._size_bytes = [], [], 0


class _Teller:
    """The thread of this process that has the outbox of its call tell what is done.

    It looks every ``FLUSH_S``, and sleeps where no call has come for a while: a thread for each
    call would cost a trivial one as much as its work.
    """

    def __init__(self) -> None:
        self._outbox: _Outbox | None = None
        self._asleep = False
        self._wake = threading.Event()
        threading.Thread(target=self._run, name="clew-outbox", daemon=True).start()

    def watch(self, outbox: _Outbox | None) -> None:
        """See to this one from now; None: to none."""
        self._outbox = outbox
        if outbox is not None and self._asleep:
            self._wake.set()

    def _run(self) -> None:
        idle = 0
        while True:
            time.sleep(FLUSH_S)
            outbox = self._outbox
            if outbox is not None:
                idle = 0
                outbox.tell()
            elif (idle := idle + 1) > _IDLE:
                self._asleep = True
                if self._outbox is None:  # looked at after that was said: no call is missed
                    self._wake.wait()
                self._asleep = False
                self._wake.clear()
                idle = 0


@lru_cache(maxsize=1)
def _teller() -> _Teller:
    return _Teller()


def evidence_of(report: QualityReport) -> dict[str, Any]:
    """What a refusal or a warning rests on, JSON-able: expectations that are not met, with rows."""
    return {
        "rows": report.rows,
        "quarantined": len(report.quarantined),
        "expectations": [msgspec.to_builtins(result) for result in report.failures],
    }


def _prepare(task: Task, scratch: Path) -> _Step:
    store = _store(task.store)
    store.lend(task.objects)
    expectations = tuple(msgspec.convert(one, Expectation) for one in task.expectations)
    if task.program is not None:
        project = Path(task.snapshot_dir)
        program = Programs(task.program, store, project=project, scratch=scratch)
        return _Step(task=task, store=store, program=program, expectations=expectations)
    Spark.use(task.spark)
    function = _function(task)
    return _Step(
        task=task,
        store=store,
        function=function,
        annotations=annotations_of(function),
        expectations=expectations,
    )


def _function(task: Task) -> Callable[..., Any]:
    """The user's function, or one that Clew has for a kind of step, ``clew:MODULE``."""
    if not task.file.startswith(OURS):
        return load_function(task.snapshot_dir, task.file, task.name)
    found: Callable[..., Any] = getattr(import_module(task.file.removeprefix(OURS)), task.name)
    return found


@lru_cache(maxsize=2)
def _store(path: str) -> Store:
    return Store.attach(path)


def _run(step: _Step, at: int, outbox: _Outbox, scratch: Path) -> Report:
    name, groups = step.task.datums[at]
    start = time.perf_counter()
    try:
        if step.program is not None:
            chosen = [step.task.groups[number] for number in groups]
            put = None if step.expectations else outbox.put  # what is to be read is to be there
            outputs = step.program.run(at, name, chosen, step.task.parameters, put)
            evidence = _judge_files(step, outputs)
            return Report(at, "done", time.perf_counter() - start, outputs, evidence=evidence)
        value = step.function(**_arguments(step, groups, scratch), **step.task.parameters)
        kept, aside, evidence = _judge(step, value)
        said = step.annotations.get("return")
        outputs = outbox.keep(kept, name, said)
        return Report(
            at,
            "done",
            time.perf_counter() - start,
            outputs,
            outbox.keep(aside, name, said),
            "",
            evidence,
        )
    except _Refused as refused:
        duration_s = time.perf_counter() - start
        return Report(at, "refused", duration_s, error=str(refused), evidence=refused.evidence)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - the boundary with user code
        duration_s = time.perf_counter() - start
        text, code = _explained(error, step.task.snapshot_dir)
        evidence = {"code": code, "types": types_of(error)}
        return Report(at, "failed", duration_s, error=text, evidence=evidence)
    finally:
        _clear(scratch)


def types_of(error: BaseException) -> list[str]:
    """Names of an exception's class and of its bases, up to Exception."""
    return [one.__name__ for one in type(error).__mro__ if issubclass(one, Exception)]


def _handle(step: _Step, at: int, _outbox: _Outbox, scratch: Path) -> Report:
    """Give a datum that has failed to the user's handler; what it returns is of no use."""
    _, groups = step.task.datums[at]
    start = time.perf_counter()
    try:
        wanted = inspect.signature(step.function).parameters
        groups = [number for number in groups if step.task.groups[number][0] in wanted]
        found = {name: value for name, value in step.task.parameters.items() if name in wanted}
        found |= _arguments(step, groups, scratch)
        step.function(**found, error=Failure(**step.task.error))
        return Report(at, "recovered", time.perf_counter() - start)
    except Exception as error:  # noqa: BLE001 - the boundary with user code
        text, code = _explained(error, step.task.snapshot_dir)
        return Report(
            at, "failed", time.perf_counter() - start, error=text, evidence={"code": code}
        )
    finally:
        _clear(scratch)


def _arguments(step: _Step, groups: list[int], scratch: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number in groups:
        parameter, tree, paths, directory = step.task.groups[number]
        if not tree:
            found[parameter] = nothing_for(step.annotations.get(parameter))
            continue
        if parameter == PARAMETER_SET:
            found |= load_value(step.store, tree, paths, dict)
            continue
        files = [file_of(step.store, tree, path) for path in paths]
        place = Place(scratch=scratch / ".inputs" / parameter, directory=directory)
        found[parameter] = step.reader(parameter)(files, place)
    for parameter, annotation in step.annotations.items():
        if parameter not in found and Spark.is_asked_by(annotation):
            found[parameter] = Spark.session()
    return found


def nothing_for(annotation: object) -> Any:
    """What a parameter gets whose input has no part in a datum: an empty container, or None."""
    kind = typing.get_origin(annotation)
    return kind() if kind in {list, tuple, dict} else None


def _judge(step: _Step, value: Any) -> tuple[Any, Any, dict[str, Any]]:
    """The value to keep, what is put aside, and what was noted; raises _Refused."""
    if not step.expectations or value is None:
        return value, None, {}
    frame = value.collect() if type(value).__name__ == "LazyFrame" else value
    frame = frame.toArrow() if hasattr(frame, "toArrow") else frame
    report = check(frame, step.expectations)
    if not report.passed:
        raise _Refused(report)
    evidence = evidence_of(report) if report.failures else {}
    if not report.quarantined:
        return frame, None, evidence
    bad = set(report.quarantined)
    good = [row for row in range(report.rows) if row not in bad]
    return _take(frame, good), _take(frame, list(report.quarantined)), evidence


def _judge_files(step: _Step, outputs: list[tuple[str, str, int]]) -> dict[str, Any]:
    """What was noted of the files that a program left; raises _Refused."""
    if not step.expectations:
        return {}
    report = check_files(step.store, outputs, step.expectations)
    if not report.passed:
        raise _Refused(report)
    return evidence_of(report) if report.failures else {}


def _take(frame: Any, rows: list[int]) -> Any:
    """Rows of a frame by number: pandas, Arrow or Polars."""
    if hasattr(frame, "iloc"):
        return frame.iloc[rows]
    return frame.take(rows) if hasattr(frame, "take") else frame[rows]


def _explained(error: BaseException, snapshot_dir: str) -> tuple[str, str]:
    """What the author of the step has to read, and its stable code for programs."""
    found = describe_error(error, snapshot_dir)
    text = f"{found.message} {found.hint}".strip()
    return f"{text}\n\n{found.traceback}".strip(), found.code or "step.raised"


def _clear(scratch: Path) -> None:
    """What a datum left in its working directory is not there for the next."""
    for path in scratch.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
