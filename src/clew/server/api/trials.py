"""Routes for trials: what they kept, and their checkpoints.

Thin over the verbs; knows nothing of how trials run.
"""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass, field
from typing import Any

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


@dataclass(frozen=True, kw_only=True)
class ForkWish:
    """Parameters with other distributions or one value, other fields of the search, and why."""

    space: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class ContinueWish:
    """Up to how many steps in all a trial goes on, and why."""

    steps: int
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Begun:
    """The global id of what was begun."""

    global_id: str


@router.post("/experiments/{experiment_id}/fork", response_model=Begun)
def fork(call: Asked, experiment_id: str, wish: ForkWish) -> Response:
    """Run the step of an experiment anew with another search, on the data of now."""
    global_id = call.verbs.fork(
        experiment_id, space=wish.space, search=wish.search, reason=wish.reason
    )
    return call.reply(Begun(global_id=global_id))


@router.post("/trials/{trial_id}/continue", response_model=Begun)
def continue_trial(call: Asked, trial_id: str, wish: ContinueWish) -> Response:
    """Train a trial on from its latest checkpoint, up to so many steps in all."""
    global_id = call.verbs.continue_trial(trial_id, steps=wish.steps, reason=wish.reason)
    return call.reply(Begun(global_id=global_id))
