"""The target as numbers: values for a regression, positions among the classes otherwise.

Knows no model; a class is compared by its text, so that ``1``, ``1.0`` and ``True`` can meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace

from clew.base.errors import Invalid
from clew.base.records import Signature
from clew.models.frames import Array, plain_array
from clew.models.loading import Outputs
from clew.models.metrics import Floats, Ints, Scored

_SAME = {"true": "1", "false": "0"}


def plain_value(value: Any) -> bool | int | float | str:
    """The Python value of a numpy scalar; anything else but a number becomes text."""
    value = value.item() if hasattr(value, "item") else value
    return value if isinstance(value, bool | int | float | str) else str(value)


def class_text(value: Any) -> str:
    """How a class is written: whole numbers without a point, true and false in lower case."""
    value = plain_value(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def score(
    signature: Signature,
    truth: Sequence[Any] | Array,
    outputs: Outputs,
    groups: Ints | None = None,
) -> Scored:
    """Truth and outputs of a model, side by side, ready for metrics.

    ``groups``: the query of each row, where rows are ranked within queries. A class of the test
    rows that the model does not know counts as wrong, with probability 0.

    Raises:
        Invalid: ``model.target`` where a regression's target is no number, or a binary model meets
            a third class; ``model.output`` where the outputs hold neither labels nor values.
    """
    if signature.task == "regression":
        values = _output(outputs, "prediction").astype(np.float64)
        if values.ndim > 1:
            raise Invalid(
                "model.output",
                f"The model gives {values.shape[1]} numbers a row, and the target is one.",
                hint="Judge a model of one number, or import this one without a target.",
            )
        return Scored(
            task="regression", classes=(), truth=_numbers(truth), labels=values, groups=groups
        )
    texts = [class_text(value) for value in truth]
    said = [class_text(value) for value in _output(outputs, "label").tolist()]
    classes = _classes(signature, {*texts, *said})
    place = _places(classes)
    scored = Scored(
        task=signature.task,
        classes=classes,
        truth=np.array([place[text] for text in texts], dtype=np.float64),
        labels=np.array([place[text] for text in said], dtype=np.float64),
        groups=groups,
    )
    return _with_scores(scored, outputs, signature.task)


def _with_scores(scored: Scored, outputs: Outputs, task: str) -> Scored:
    scores = outputs.get("probability" if task == "binary" else "probabilities")
    if scores is None:
        return scored
    scores = plain_array(scores).astype(np.float64)
    unknown = len(scored.classes) - scores.shape[1] if task == "multiclass" else 0
    if unknown:
        scores = np.pad(scores, ((0, 0), (0, unknown)))
    return replace(scored, scores=scores)


def _classes(signature: Signature, seen: set[str]) -> tuple[str, ...]:
    known = _places(signature.classes)
    strange = sorted(text for text in seen if text not in known)
    if strange and signature.task == "binary":
        raise Invalid(
            "model.target",
            f"The model tells {' from '.join(signature.classes)}; the test rows also have "
            f"{', '.join(strange)}.",
            hint="Train and test on the same two classes.",
        )
    return (*signature.classes, *strange)


def _places(classes: Sequence[str]) -> dict[str, int]:
    """Text of a class to its position; true and 1, false and 0 stand for each other."""
    places = {text: number for number, text in enumerate(classes)}
    for one, other in [*_SAME.items(), *((b, a) for a, b in _SAME.items())]:
        if one in classes and other not in classes:
            places[other] = places[one]
    return places


def _numbers(truth: Sequence[Any] | Array) -> Floats:
    try:
        return np.asarray(truth, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise Invalid(
            "model.target",
            f"The target of a regression must be a number: {error}",
            hint="Choose another target, or say task='binary' or 'multiclass'.",
        ) from error


def _output(outputs: Outputs, name: str) -> Array:
    if name not in outputs:
        raise Invalid(
            "model.output",
            f"The model gives {', '.join(outputs) or 'nothing'}, but no {name!r}.",
            hint=f"Return a mapping with {name!r}, or one array.",
        )
    return outputs[name]
