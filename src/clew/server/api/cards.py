"""Routes that hold models up to the light.

Thin over the verbs; knows nothing of how a card is made.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query
from fastapi.responses import PlainTextResponse, Response

from clew.base.records.cards import ModelCard
from clew.base.records.comparing import Comparison
from clew.base.records.reports import EvaluationReport
from clew.base.records.run_cards import RunCard
from clew.server.call import Asked
from clew.server.shapes import Routes

router = Routes(tags=["models and endpoints"])


@router.get("/cards/{ref:path}", response_model=ModelCard)
def card(call: Asked, ref: str, format: Literal["json", "markdown"] = "json") -> Response:
    """The card of a model version; `format=markdown` is the text alone."""
    found = call.verbs.card(ref)
    if format == "markdown":
        return PlainTextResponse(found.markdown, media_type="text/markdown")
    return call.reply(found)


@router.get("/run-cards/{subject:path}", response_model=RunCard)
def run_card(call: Asked, subject: str, format: Literal["json", "markdown"] = "json") -> Response:
    """The card of a run or registered version of an MLflow client: `runs:/ID`,
    `models:/NAME/VERSION`, `models:/NAME@ALIAS`; `format=markdown` is the text alone.
    """
    found = call.verbs.run_card(subject)
    if format == "markdown":
        return PlainTextResponse(found.markdown, media_type="text/markdown")
    return call.reply(found)


@router.get("/reports/{ref:path}", response_model=EvaluationReport)
def report(call: Asked, ref: str) -> Response:
    """The evaluation report of a model version: metrics with intervals, slices, charts."""
    return call.reply(call.verbs.report(ref))


@router.get("/runs/compare", response_model=Comparison)
def compare_runs(
    call: Asked,
    run: Annotated[list[str], Query()] = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """Runs side by side: parameters, metrics, data, code, packages; `run` once for each."""
    return call.reply(call.verbs.compare_runs(run))
