"""What the user's training function holds of its trial: parameters, steps, reports, checkpoints.

Knows neither the store nor the search: both are behind the :class:`Port` that it is given.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, overload

import msgspec

from clew.base.errors import Invalid
from clew.experiments.logged import Logged, figure, image, table, text

_DIRECTORY = object()


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A state with ``step`` steps behind it, and what the user keeps beside it.

    Either a pickle (``content``), or a ``directory`` whose files nobody writes to any more.
    """

    step: int
    meta: dict[str, object]
    content: bytes = b""
    directory: Path | None = None


class Port(Protocol):
    """The way out of a trial. Calls come from one thread at a time."""

    def report(self, step: int, metrics: dict[str, float]) -> None:
        """Pass on what was reported after ``step`` steps."""
        ...

    def reached(self, step: int) -> int:
        """At the end of a rung: the step to go on to, or ``step`` itself to pause."""
        ...

    def pausing(self) -> bool:
        """Whether the trial should pause where it is, before its next rung. May be asked often."""
        ...

    def load(self) -> Any:
        """The checkpoint that this run begins with: its object, or a directory of its files.

        None where there is none. The directory is the caller's own.
        """
        ...

    def folder(self) -> Path:
        """A new empty directory, for files of a checkpoint."""
        ...

    def copy(self, obj: object) -> bytes:
        """A pickle of an object as it is now."""
        ...

    def meta(self) -> dict[str, object]:
        """What was kept beside the checkpoint that this run begins with."""
        ...

    def save(self, checkpoint: Checkpoint, *, now: bool = False) -> bool:
        """Keep a checkpoint; False where that is too soon after the last one, unless ``now``."""
        ...

    def log(self, logged: Logged) -> None:
        """Keep a file of the trial."""
        ...

    def progress(self, share: float, text: str) -> None:
        """Pass on how far the trial says it is."""
        ...


class Params(Mapping[str, Any]):
    """The parameters of a trial: ``params["depth"]``, ``params.depth`` or ``f(**params)``.

    Of a nested space, ``params.svm`` are the parameters below that name that this trial has.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        start = f"{name}."
        below = {
            key.removeprefix(start): one
            for key, one in self._values.items()
            if key.startswith(start)
        }
        if not below:
            raise KeyError(self._unknown(name))
        return Params(below)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # while being unpickled there is nothing to look into
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(self._unknown(name)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Params({self._values!r})"

    def _unknown(self, name: str) -> str:
        return f"{name!r} is not in the space; there are: {', '.join(self._values) or 'none'}"


class Trial:
    """One set of parameters on its way through the search.

    The training function loops over :meth:`steps`, reports, and returns its model::

        model = trial.restore() or Model(**trial.params)
        for step in trial.steps():
            model.partial_fit(...)
            trial.report(step, loss=...)
        return model

    When the search pauses the trial, the loop ends early and the returned model is its checkpoint;
    if it is promoted later, the function is called again and :meth:`restore` gives that model. A
    function that cannot stop early may ignore :meth:`steps` and :attr:`should_stop`: it then runs
    to its end and counts at every rung that it passed. Not thread-safe.
    """

    def __init__(
        self,
        *,
        id: str,
        number: int,
        params: Mapping[str, Any],
        seed: int,
        start: int,
        target: int,
        max_steps: int,
        port: Port,
    ) -> None:
        self.id = id
        self.number = number
        self.params = Params(params)
        self.seed = seed
        self.rank, self.world_size, self.local_rank = 0, 1, 0  # else in a group: see ranks.py
        self._start = start
        self._target = target
        self._max_steps = max_steps
        self._port = port
        self._step = 0
        self._in_step = 0
        self._restored = False
        self._pausing = False
        self._pending: Checkpoint | None = None
        self._latest: Checkpoint | None = None

    def __repr__(self) -> str:
        return f"<trial {self.number} of {self._max_steps} steps, {self.params!r}>"

    @property
    def step(self) -> int:
        """Steps that are behind this trial, those before its checkpoint included."""
        return self._step

    @property
    def max_steps(self) -> int:
        """Steps that a trial has at most: those of the last rung."""
        return self._max_steps

    def steps(self) -> Iterator[int]:
        """Numbers of the steps to train: from 1, or from where the restored checkpoint stands.

        Ends when the trial should pause or has had all its steps. Call :meth:`restore` before:
        without it there is nothing to continue from, and the trial starts over at step 1.
        """
        if self._start and not self._restored:
            self.log("trial.restore() was not called, so this trial starts over at step 1.")
        while not self._is_over():
            self._in_step = self._step + 1
            yield self._in_step
            self._step = max(self._step, self._in_step)
            self._in_step = 0
            self._keep_pending()

    @property
    def should_stop(self) -> bool:
        """Whether to return now (for loops that are not over :meth:`steps`). Ask after a report."""
        return self._is_over()

    def report(self, step: int, /, **metrics: float) -> None:
        """Say how good the model is after ``step`` steps, counted from 1.

        A second report of a step adds to the first. A metric that is not finite counts as the
        worst, with a warning.

        Raises:
            Invalid: ``trial.report`` for a step below 1, no metric, or one that is not a number.
        """
        if isinstance(step, bool) or int(step) != step or step < 1:
            raise _bad_report(f"step {step!r} is not a number from 1 on")
        if self._in_step and step > self._in_step:
            raise _bad_report(f"step {step} is ahead of step {self._in_step} of trial.steps()")
        if not metrics:
            raise _bad_report("there is no metric in it")
        found = {}
        for name, value in metrics.items():
            found[name] = _number(name, value)
        self._port.report(int(step), found)
        self._step = max(self._step, int(step))
        if self._pending is not None and self._pending.step < step:
            self._keep_pending()

    @overload
    def checkpoint(
        self, obj: object, /, *, step: int | None = None, shard: bool = False, **meta: object
    ) -> None: ...

    @overload
    def checkpoint(
        self, /, *, step: int | None = None, shard: bool = False, **meta: object
    ) -> AbstractContextManager[Path]: ...

    def checkpoint(
        self,
        obj: object = _DIRECTORY,
        /,
        *,
        step: int | None = None,
        shard: bool = False,
        **meta: object,
    ) -> AbstractContextManager[Path] | None:
        """Make ``obj`` (anything that pickles) what :meth:`restore` gives from now on.

        It is copied at once and kept when its step is over, at most once a second and in any case
        when the function returns. Without this call the returned model is the checkpoint.

        Without ``obj`` the checkpoint is a directory: what is written into it is kept, and
        :meth:`restore` gives a directory with these files::

            with trial.checkpoint() as folder:
                model.save(folder / "model.keras")

        Large files are read piece by piece, and pieces that an earlier checkpoint had cost nothing.

        Args:
            obj: The whole state that training continues from.
            step: Steps behind that state; by default the step of the loop over :meth:`steps`
                that this is called in, else the last one reported.
            shard: Where several ranks train together: this is one rank's part, and every rank
                calls this. Without it the checkpoint of rank 0 is that of all.
            meta: Plain values to keep beside it.

        Raises:
            Invalid: ``checkpoint.empty`` where nothing was written into the directory.
        """
        at = self._at() if step is None else step
        if obj is _DIRECTORY:
            return self._checkpoint_directory(at, meta, shard)
        self._take(Checkpoint(step=at, content=self._port.copy(obj), meta=meta), shard)
        return None

    def restore(self) -> Any:
        """The latest checkpoint: its object, or the Path of a directory with its files.

        None for a trial that begins. The directory is a copy for this run; write to it freely.
        """
        self._restored = True
        self._step = max(self._step, self._start)
        return self._port.load()

    @property
    def restored_meta(self) -> dict[str, object]:
        """What :meth:`checkpoint` was given beside the state that :meth:`restore` gives."""
        return self._port.meta()

    def log(self, text: str) -> None:
        """Add a line to the log of this trial."""
        print(text, flush=True)  # noqa: T201 - standard output is the log of a call

    def log_text(self, name: str, content: str, *, step: int | None = None) -> None:
        """Keep a text with this trial, as ``name/STEP.txt`` (or with the suffix of ``name``).

        Like all that is logged it is one file for each name and step: logged again, it is replaced.
        ``step`` is that of the loop, or the last one reported. Raises Invalid ``trial.log``.
        """
        self._port.log(text(name, content, self._at() if step is None else step))

    def log_table(self, name: str, rows: object, *, step: int | None = None) -> None:
        """Keep a table: a frame of pandas, Polars or Arrow, a dict of columns, a list of dicts.

        Kept as Parquet. Raises Invalid ``trial.log``.
        """
        self._port.log(table(name, rows, self._at() if step is None else step))

    def log_figure(self, name: str, drawing: object, *, step: int | None = None) -> None:
        """Keep a figure: of Matplotlib (as PNG), of Plotly, Altair or Bokeh (as HTML), or a file.

        Raises Invalid ``trial.log``.
        """
        self._port.log(figure(name, drawing, self._at() if step is None else step))

    def log_image(self, name: str, picture: object, *, step: int | None = None) -> None:
        """Keep an image: of Pillow, an array (height, width[, 3 or 4]), PNG bytes, or a file.

        Arrays of floats go from 0 to 1, those of whole numbers from 0 to 255. Raises Invalid
        ``trial.log``.
        """
        self._port.log(image(name, picture, self._at() if step is None else step))

    def progress(self, share: float, text: str = "") -> None:
        """Say how far this trial is, from 0 to 1, where its steps do not say enough.

        Raises:
            Invalid: ``trial.progress`` for what is no share.
        """
        if not 0 <= share <= 1:
            raise Invalid(
                "trial.progress",
                f"{share!r} is not a share of the work.",
                hint="Write trial.progress(done / total), between 0 and 1.",
            )
        self._port.progress(float(share), text)

    # for loops that Clew does not see: a program that trains ----------------------------------

    @property
    def target(self) -> int:
        """The step at which the search decides about this trial next."""
        return self._target

    def keep_checkpoint(self) -> None:
        """Make the latest checkpoint durable now, though its step may not be over."""
        if self._pending is not None:
            self._port.save(self._pending, now=True)
            self._pending = None

    def wants_pause(self) -> bool:
        """Whether somebody wants this trial to stop where it is, at whatever step. Ask often."""
        if not self._pausing and self._port.pausing():
            self._pausing, self._target = True, self._step
        return self._pausing

    def finish(self) -> None:
        """Say that training came to its end, although it was told to pause."""
        self._pausing = False

    # for the worker -------------------------------------------------------------------------

    def paused(self) -> bool:
        """Whether the function was told to stop before its last step."""
        return self._pausing

    def latest_checkpoint(self) -> Checkpoint | None:
        """What the last :meth:`checkpoint` of this run made."""
        return self._latest

    # within ---------------------------------------------------------------------------------

    def _at(self) -> int:
        return max(self._step, self._in_step)

    @contextmanager
    def _checkpoint_directory(
        self, step: int, meta: dict[str, object], shard: bool
    ) -> Iterator[Path]:
        folder = self._port.folder()
        try:
            yield folder
            if not any(one.is_file() for one in folder.rglob("*")):
                raise Invalid(
                    "checkpoint.empty",
                    "Nothing was written into the directory of the checkpoint.",
                    hint="Write files into the path that `with trial.checkpoint() as path` gives.",
                )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._take(Checkpoint(step=step, directory=folder, meta=meta), shard)

    def _take(self, checkpoint: Checkpoint, shard: bool) -> None:
        """A new latest checkpoint; a shard where the user says so, which is the whole for one."""
        del shard
        self._set_latest(checkpoint)

    def _set_latest(self, checkpoint: Checkpoint) -> None:
        before = self._latest
        self._latest = self._pending = checkpoint
        if before is not None and before.directory is not None:
            shutil.rmtree(before.directory, ignore_errors=True)

    def _is_over(self) -> bool:
        if self._step < self._target:
            if not self._port.pausing():
                return False
            self._pausing, self._target = True, self._step
        if self._step < self._max_steps and not self._pausing:
            self._target = self._port.reached(self._step)
            self._pausing = self._target <= self._step
        return self._step >= self._target

    def _keep_pending(self) -> None:
        if self._pending is not None and self._port.save(self._pending):
            self._pending = None


def _number(name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # what is none is told below
    except (TypeError, ValueError):
        raise _bad_report(f"{name}={value!r} is not a number") from None
    if not math.isfinite(number):
        warnings.warn(f"{name} is {number}: it counts as the worst.", RuntimeWarning, stacklevel=3)
    return number


def _bad_report(why: str) -> Invalid:
    return Invalid(
        "trial.report",
        f"This report cannot be kept: {why}.",
        hint="Write trial.report(step, name=number) with steps counted from 1.",
    )
