"""Numbers that a caller may ask for: how many, and after which.

Knows no verb; the HTTP door refuses the same numbers with the same code.
"""

from __future__ import annotations

from clew.base.errors import Invalid


def check_limit(limit: int) -> int:
    """The number itself, if so many things can be asked for.

    Raises:
        Invalid: ``request.invalid``.
    """
    if limit < 1:
        raise Invalid(
            "request.invalid", f"A limit of {limit} asks for nothing.", hint="Give 1 or more."
        )
    return limit


def check_seq(seq: int) -> int:
    """The number itself, if an event may have it (0: before the first).

    Raises:
        Invalid: ``request.invalid``.
    """
    if not 0 <= seq < 2**63:
        raise Invalid(
            "request.invalid", f"There is no event {seq}.", hint="Events are counted from 1."
        )
    return seq
