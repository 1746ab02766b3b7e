"""One datum of a step that is a program: lay out its inputs, run it, keep what it leaves.

Runs in worker processes. Knows the store; knows nothing of jobs.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

from msgspec import Struct, field

from clew.base.address import normal_path
from clew.base.errors import Invalid
from clew.places.cores import on_cores
from clew.places.definitions import CommandDefinition, RuntimeDefinition
from clew.places.enclosures import Enclosure, enclosure_of
from clew.places.layout import Files, Layout, outputs_of
from clew.places.running import Source, run_program, surroundings, told
from clew.store import Store

_VARIABLE = re.compile(r"\$(?:\{(CLEW_\w+)\}|(CLEW_\w+))")
_INTERPRETER = re.compile(r"(?:(?:ba|da|z|k|fi)?sh|python[\d.]*|perl|ruby|node|Rscript|julia)")
_CODE_FLAG = re.compile(r"-[A-Za-z]*[ce]")

SMALL_BYTES = 4 << 20

Put = Callable[[Path], tuple[str, int]]
"""Takes a file; its digest and size."""

Kept = tuple[str, str, int]
"""Path, digest and size of a file of the output."""


class DatumOfProgram(Struct, frozen=True, kw_only=True):
    """What one run of a program gets. ``variables`` are ``CLEW_...`` with their values."""

    name: str
    inputs: Mapping[str, Files]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)


class Program:
    """A program, ready to run datums below ``root``, one after another. Owned by one thread."""

    def __init__(
        self,
        command: CommandDefinition,
        runtime: RuntimeDefinition,
        store: Store,
        *,
        root: Path,
        project: Path,
        programs: Path | None = None,
    ) -> None:
        self._command = command
        self._runtime = runtime
        self._store = store
        self._project = project
        self._programs = programs
        self._layout = Layout(root, store)

    def run(self, datum: DatumOfProgram, put: Put | None = None) -> list[Kept]:
        """Run it for one datum; its output, durable in the store.

        ``put`` takes files of less than ``SMALL_BYTES`` instead, and sees to that they are kept.

        Raises:
            Invalid: ``step.exit``, ``step.program``, ``step.output``, ``step.stdout``.
            Unavailable: ``sandbox.missing``, ``image.no_runtime``, ``disk.full``.
        """
        layout, command = self._layout, self._command
        place = enclosure_of(
            self._runtime, layout, self._project, self._store.address, self._programs
        )
        pipes = layout.lay_out(
            datum.inputs,
            pipes=command.pipes,
            project=self._project,
            seen_at=place.path(self._project),
        )
        try:
            with self._store.writer() as writer:
                streamed: list[Kept] = []

                def take(stream: IO[bytes]) -> None:
                    streamed.append((self._stdout(datum), *writer.put(cast(BinaryIO, stream))))

                status, said = self._start(datum, place, pipes, take if command.stdout else None)
                if status not in command.exit_codes:
                    raise told(command.arguments[0], status, said, command.exit_codes)

                def keep(path: Path) -> tuple[str, int]:
                    small = put is not None and path.stat().st_size < SMALL_BYTES
                    return put(path) if put is not None and small else writer.put(path)

                found = [*outputs_of(layout, keep), *streamed]
            return _each_once(found)
        finally:
            layout.clear()

    def _start(
        self,
        datum: DatumOfProgram,
        place: Enclosure,
        pipes: Sequence[tuple[Path, str]],
        take: Callable[[IO[bytes]], None] | None,
    ) -> tuple[int, str]:
        command = self._command
        variables = {
            **place.variables(),
            **command.environment,
            **_variables(datum, self._layout, place, self._project),
        }
        arguments = (
            ["/bin/sh", "-c", command.arguments[0]]
            if command.shell
            else expanded(command.arguments, variables)
        )
        stdin = datum.inputs[command.stdin] if command.stdin else ()
        with on_cores(self._runtime.cpus):
            return run_program(
                place.wrap(arguments, variables),
                directory=self._layout.work,
                environment=surroundings({} if place.closed else variables),
                stdin=[self._source(digest) for _, digest in stdin] if command.stdin else None,
                pipes=[(path, self._source(digest)) for path, digest in pipes],
                stdout=take,
            )

    def _source(self, digest: str) -> Source:
        return partial(self._store.open_file, digest)

    def _stdout(self, datum: DatumOfProgram) -> str:
        path = self._command.stdout.replace("{name}", datum.name)
        return normal_path(f"/{path.lstrip('/')}")


def expanded(arguments: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """Arguments with ``$CLEW_...`` replaced.

    Not in code that is given to an interpreter (``sh -c``, ``python -c``): names of files are data
    and must not become code. There the variable itself can be read.
    """

    def value(match: re.Match[str]) -> str:
        return variables.get(match[1] or match[2], match[0])

    def is_code(at: int) -> bool:
        return (
            at >= 2
            and _CODE_FLAG.fullmatch(arguments[at - 1]) is not None
            and _INTERPRETER.fullmatch(PurePosixPath(arguments[at - 2]).name) is not None
        )

    return [one if is_code(at) else _VARIABLE.sub(value, one) for at, one in enumerate(arguments)]


def _variables(
    datum: DatumOfProgram, layout: Layout, place: Enclosure, project: Path
) -> dict[str, str]:
    found = dict(datum.variables)
    found["CLEW_PROJECT"] = place.path(project)
    found["CLEW_OUTPUT"] = place.path(layout.out)
    found["CLEW_DATUM_NAME"] = datum.name
    found["CLEW_PARAMETERS"] = json.dumps(dict(datum.parameters), sort_keys=True)
    for name, value in datum.parameters.items():
        text = value if isinstance(value, str) else json.dumps(value)
        found[f"CLEW_PARAMETER_{_plain(name)}"] = text
    for name, files in datum.inputs.items():
        found[f"CLEW_INPUT_{_plain(name)}"] = place.path(layout.inputs / name)
        if len(files) == 1:
            found[f"CLEW_FILE_{_plain(name)}"] = place.path(layout.path(name, files[0][0]))
    return found


def _plain(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _each_once(found: list[Kept]) -> list[Kept]:
    times = Counter(path for path, _, _ in found)
    twice = next((path for path, count in times.items() if count > 1), None)
    if twice is not None:
        raise Invalid(
            "step.stdout",
            f"The program wrote {twice} itself, and its standard output is to become it.",
            hint="Give stdout= another name.",
        )
    return found
