"""What stands in the place of the rooms of a workspace that was closed.

Knows no room: whatever is asked of it is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, cast

from clew.base.errors import closed

if TYPE_CHECKING:
    from clew.workspace.rooms import Rooms


class _Gone:
    def close(self) -> None:
        """Nothing: it is closed."""

    def __getattr__(self, name: str) -> NoReturn:
        raise closed()


def gone() -> Rooms:
    """Rooms that raise Unavailable ``workspace.closed``."""
    return cast("Rooms", _Gone())
