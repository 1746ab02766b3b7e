"""Routes for trials: what they kept, and their checkpoints.

Thin over the verbs; knows nothing of how trials run.
"""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass

from fastapi.responses import Response

from clew.base.records.trial_policy import Keep
from clew.base.records.trials import CheckpointInfo, Pruned, TrialDetail
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


@dataclass(frozen=True, kw_only=True)
class KeepWish:
    """So many checkpoints stay: of the best of the search, of each trial, of its latest."""

    best: int = 1
    trial_best: int = 1
    trial_latest: int = 1


@dataclass(frozen=True, kw_only=True)
class Prune:
    """What to keep (without it: what the step says), and whether to tell only."""

    keep: KeepWish | None = None
    dry_run: bool = False


@router.get("/checkpoints", response_model=list[CheckpointInfo])
def checkpoints(call: Asked, subject: str) -> Response:
    """Checkpoints of an experiment or a trial, with why each stays."""
    return call.reply(call.verbs.checkpoints(subject))


@router.post("/experiments/{experiment_id}/prune", response_model=Pruned)
def prune(call: Asked, experiment_id: str, wish: Prune) -> Response:
    """Give up the checkpoints that a policy does not keep; `dry_run` says which those are."""
    given = wish.keep
    keep = None
    if given is not None:
        keep = Keep(best=given.best, trial_best=given.trial_best, trial_latest=given.trial_latest)
    return call.reply(call.verbs.prune(experiment_id, keep, dry_run=wish.dry_run))
