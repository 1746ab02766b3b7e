"""The page of a logged prediction, and what each input did to it, as bars for SVG.

Thin over the verbs; how a prediction is explained is for the process that serves it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, cast

from fastapi import APIRouter, Form
from fastapi.responses import Response
from msgspec import Struct

from clew.base.errors import ClewError
from clew.base.records import ExplainResult, Prediction
from clew.server.web.show import Page, Shown
from clew.server.web.words import number, text

router = APIRouter(include_in_schema=False)

MOST_BARS = 15
WIDTH, NAMES, VALUES = 440, 160, 58
_MIDDLE = NAMES + (WIDTH - NAMES) / 2
_ROOM = (WIDTH - NAMES) / 2 - VALUES


class Push(Struct, frozen=True, kw_only=True):
    """What an input did: a bar from the middle to the right (more) or to the left (less)."""

    name: str
    y: float
    x: float
    width: float
    text: str
    text_x: float
    anchor: str
    less: bool


class Story(Struct, frozen=True, kw_only=True):
    """An explanation of one row: from ``base`` by the bars to ``value``, of one class."""

    classes: tuple[str, ...]
    at: int
    base: str
    value: str
    bars: tuple[Push, ...]
    height: float
    middle: float = _MIDDLE


@router.get("/predictions/{prediction_id}")
def prediction(page: Shown, prediction_id: str) -> Response:
    """A prediction of the log."""
    return _shown(page, page.verbs.prediction(prediction_id))


@router.post("/predictions/{prediction_id}")
def explained(
    page: Shown,
    prediction_id: str,
    row: Annotated[int, Form()] = 0,
    of: Annotated[str, Form()] = "",
) -> Response:
    """The same with what each input did to a row of it; or with why that cannot be said."""
    found = page.verbs.prediction(prediction_id)
    try:
        told = page.verbs.explain_prediction(found.id, row=row)
    except ClewError as error:
        return _shown(page, found, row=row, said=error)
    return _shown(page, found, row=row, told=told, of=of)


def _shown(
    page: Page,
    found: Prediction,
    *,
    row: int = 0,
    told: ExplainResult | None = None,
    of: str = "",
    said: ClewError | None = None,
) -> Response:
    rows = max(map(len, [*found.inputs.values(), *found.outputs.values()]), default=0)
    story = None if told is None else story_of(told, of, _row(found.inputs, row))
    return page.show(
        "prediction.html",
        prediction=found,
        row=row,
        rows=rows,
        inputs=_row(found.inputs, row),
        outputs=_row(found.outputs, row),
        outcome=page.verbs.outcome(found.id),
        told=told,
        story=story,
        said=said,
        width=WIDTH,
        names=NAMES - 8,
    )


def _row(columns: Mapping[str, Sequence[object]], row: int) -> dict[str, object]:
    return {name: values[row] for name, values in columns.items() if row < len(values)}


def story_of(told: ExplainResult, of: str, inputs: Mapping[str, object]) -> Story:
    """What is drawn of the first row: of the class ``of``, else of that with the largest value."""
    several = isinstance(told.values[0], list)
    values = _listed(told.values[0])
    at = max(range(len(values)), key=values.__getitem__)
    if several and of in told.classes:
        at = told.classes.index(of)
    parts = {name: _listed(value)[at] for name, value in told.attributions[0].items()}
    order = sorted(parts, key=lambda name: -abs(parts[name]))
    bars = [(_named(name, inputs), parts[name]) for name in order[:MOST_BARS]]
    if rest := order[MOST_BARS:]:
        bars.append((f"{len(rest)} others together", sum(parts[name] for name in rest)))
    most = max((abs(each) for _, each in bars), default=0.0) or 1.0
    return Story(
        classes=tuple(told.classes) if several else (),
        at=at,
        base=number(_listed(told.base_values[0])[at]),
        value=number(values[at]),
        bars=tuple(_push(name, each, most, index) for index, (name, each) in enumerate(bars)),
        height=22.0 * len(bars) + 12,
    )


def _push(name: str, value: float, most: float, index: int) -> Push:
    width = max(0.5, _ROOM * abs(value) / most)
    less = value < 0
    end = _MIDDLE - width if less else _MIDDLE + width
    return Push(
        name=name,
        y=8.0 + 22.0 * index,
        x=round(end if less else _MIDDLE, 1),
        width=round(width, 1),
        text=f"{'−' if less else '+'}{number(abs(value))}",
        text_x=round(end - 6 if less else end + 6, 1),
        anchor="end" if less else "start",
        less=less,
    )


def _named(name: str, inputs: Mapping[str, object]) -> str:
    told = f"{name} = {text(inputs[name])}" if name in inputs else name
    return told if len(told) < 25 else f"{told[:23]}…"


def _listed(value: object) -> list[float]:
    listed = cast("list[float]", value) if isinstance(value, list) else [cast("float", value)]
    return [float(each) for each in listed]
