"""Routes for trials: what they kept, and their checkpoints.

Thin over the verbs; knows nothing of how trials run.
"""

from __future__ import annotations

import mimetypes

from fastapi.responses import Response

from clew.base.records.trials import TrialDetail
from clew.server.call import Asked
from clew.server.shapes import Routes

router = Routes(tags=["trials"])

_SHOWN = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""What a browser may show in a page of this origin: nothing that could run."""


@router.get("/trials/{trial_id}", response_model=TrialDetail)
def trial(call: Asked, trial_id: str) -> Response:
    """A trial with its points, the files that it logged, what it used, and its log."""
    return call.reply(call.verbs.trial(trial_id))


@router.get("/trials/{trial_id}/file")
def trial_file(call: Asked, trial_id: str, path: str) -> Response:
    """The content of a file that a trial logged; images are shown, all else is to be saved."""
    content = call.verbs.trial_file(trial_id, path)
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    shown = kind in _SHOWN
    return Response(
        content,
        media_type=kind if shown else "application/octet-stream",
        headers={"Content-Security-Policy": "sandbox; default-src 'none'"}
        | ({} if shown else {"Content-Disposition": "attachment"}),
    )
