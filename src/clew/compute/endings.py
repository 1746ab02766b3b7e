"""How calls end that gave no value: what is said of it.

Knows words; who ends a call, and when, is for the places that run them.
"""

from __future__ import annotations

import signal

from clew.base.errors import ClewError
from clew.compute.call import CallError
from clew.compute.frames import NOTHING, Done


def without_value(
    kind: str, message: str, *, hint: str = "", duration_s: float = 0.0, log: str = ""
) -> Done:
    """The end of a call by us."""
    error = CallError(kind=kind, message=message, code=f"call.{kind}", hint=hint)
    return Done(NOTHING, error, duration_s, log)


def refused(error: ClewError, label: str) -> Done:
    """The end of a call that could not begin: an error that is not its own."""
    told = CallError(
        kind="clew", message=f"{label}: {error.message}", code=error.code, hint=error.hint,
        family=error.kind, type=type(error).__name__,
    )  # fmt: skip
    return Done(NOTHING, told, 0.0, "")


def how(status: int, label: str) -> tuple[str, str]:
    """What to say of a process that ended with ``status`` in the middle of a call, and a hint."""
    if status >= 0:
        how = f"ended with exit code {status}"
        return f"The process of {label} {how}.", "Return from the function instead of exiting."
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    if -status == signal.SIGKILL:
        return (
            f"The process of {label} was killed by {name}, likely out of memory.",
            "Work on smaller pieces, or run fewer workers at a time.",
        )
    return f"The process of {label} was killed by {name}.", "Its log may say where it crashed."


def cut_off(label: str) -> tuple[str, str]:
    """The same of a process that lives and cannot be heard any more."""
    return (
        f"The process of {label} lost the pipe to its pool.",
        "Do not close or write to descriptors that your code did not open.",
    )
