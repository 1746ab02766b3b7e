"""Feedback as programs write it: records, or mappings with the same names as in JSON.

Knows no predictions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import msgspec

from clew.base.errors import Invalid
from clew.base.records.traffic import Feedback


def feedback_items(items: Iterable[Feedback | Mapping[str, object]]) -> list[Feedback]:
    """The records.

    Raises:
        Invalid: ``feedback.value`` where one is none.
    """
    found = [item if isinstance(item, Feedback) else _item(item) for item in items]
    for item in found:  # JSON would make nothing of them on the way
        if item.reward is not None and not math.isfinite(item.reward):
            raise Invalid(
                "feedback.value",
                f"The reward of {item.id} is {item.reward}.",
                hint="Give a finite number.",
            )
    return found


def _item(told: object) -> Feedback:
    try:
        return msgspec.convert(told, Feedback)
    except msgspec.ValidationError as error:
        raise Invalid(
            "feedback.value",
            f"{told!r} is no feedback: {error}.",
            hint='Write {"id": "p…", "label": 1}, or reward= in place of the label.',
        ) from None
