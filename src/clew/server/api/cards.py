"""Routes that hold models up to the light.

Thin over the verbs; knows nothing of how a card is made.
"""

from __future__ import annotations

from typing import Literal

from fastapi.responses import PlainTextResponse, Response

from clew.base.records.cards import ModelCard
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
