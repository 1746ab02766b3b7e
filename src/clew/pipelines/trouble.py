"""Datums of a job that did not end well: how many, and what is told of them.

Holds the first few alone, however many there are.
"""

from __future__ import annotations

from collections import Counter

_TOLD = 3


class Trouble:
    """What went wrong in a job. Used by its thread."""

    def __init__(self) -> None:
        self._states = Counter[str]()
        self._first: dict[str, tuple[str, str]] = {}
        self._errors: list[str] = []

    def __len__(self) -> int:
        return self._states.total()

    def add(self, label: str, state: str, error: str) -> None:
        """One more datum, ``failed`` or ``refused``."""
        self._states[state] += 1
        self._first.setdefault(state, (label, error))
        if len(self._errors) < _TOLD:
            self._errors.append(f"{label}: {error}")

    @property
    def state(self) -> str:
        """How the job ends."""
        return "failed" if self._states["failed"] else "refused"

    def reason(self, total: int) -> str:
        """One sentence for the job, which has so many datums in all."""
        label, error = self._first[self.state]
        line = error.strip().splitlines()[0] if error.strip() else "no message"
        return f"{len(self)} of {total} datums {self.state}; {label}: {line}"

    @property
    def errors(self) -> str:
        """The first errors in full."""
        return "\n\n".join(self._errors)
