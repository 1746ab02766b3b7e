"""What every command shares: the workspace it works on, JSON output, errors and exit codes.

Knows nothing of what the commands print.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from clew.base.errors import ClewError
from clew.sdk import connect

if TYPE_CHECKING:
    from rich.console import Console

    from clew.base.verbs import Verbs

EXIT_CODES = {
    "invalid": 2,
    "not_found": 3,
    "conflict": 4,
    "denied": 5,
    "not_ready": 6,
    "unavailable": 7,
    "corrupt": 8,
}
"""Exit status by kind of error; 0 is done, 1 means that the work itself failed or was refused."""

PLAIN_WIDTH = 160
"""Columns where the output is not a terminal."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@contextmanager
def workspace(*, working: bool = False) -> Iterator[Verbs]:
    """The workspace that the environment and this directory name; closed at the end.

    ``working``: the command is about to run the user's code.
    """
    verbs = connect(working=working)
    try:
        yield verbs
    finally:
        verbs.close()


def console(*, stderr: bool = False) -> Console:
    """A console for people; plain where the output is not a terminal."""
    from rich.console import Console  # noqa: PLC0415 - help must not pay for it

    people = sys.stderr.isatty() if stderr else sys.stdout.isatty()
    width = None if people or "COLUMNS" in os.environ else PLAIN_WIDTH
    return Console(stderr=stderr, highlight=False, width=width)


def print_json(value: object) -> None:
    """One JSON document on standard output: records as objects, times in ISO 8601."""
    sys.stdout.write(_as_json(value))


def json_line(value: object) -> str:
    """One JSON document on one line, for programs that read as it comes."""
    import msgspec  # noqa: PLC0415 - help must not pay for it

    return msgspec.json.encode(value).decode() + "\n"


def _as_json(value: object) -> str:
    import msgspec  # noqa: PLC0415 - help must not pay for it

    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def report_error(error: ClewError, *, as_json: bool) -> None:
    """Say what is wrong and what to do, on standard error; never a traceback."""
    if as_json:
        sys.stderr.write(_as_json({"error": error.to_wire()}))
        return
    out = console(stderr=True)
    out.print(f"[bold red]✗[/] {_plain(error.message)}  [dim]{error.code}[/]")
    if error.hint:
        out.print(f"  [dim]→[/] {_plain(error.hint)}")


def _plain(text: str) -> str:
    return text.replace("[", "\\[")
