"""A model of this workspace in the process of who asks: an endpoint's, or a version's.

Knows the rooms; how a model is asked is for serving.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.base.errors import Invalid, NotReady
from clew.models import load_model
from clew.serving import InProcess

if TYPE_CHECKING:
    from clew.workspace.workspace import Workspace


def load(workspace: Workspace, ref: str, *, log: bool = False) -> InProcess:
    """The live model of an endpoint, or ``model@3``, ``model@champion``, in this process.

    Raises:
        NotFound: ``endpoint.unknown``, ``model.unknown``.
        NotReady: ``endpoint.empty``.
        Invalid: ``load.log`` where a version alone is to be logged: an endpoint has a log.
    """
    rooms = workspace.rooms
    if "@" in ref:
        if log:
            raise Invalid(
                "load.log",
                f"{ref} is a model version: predictions are logged for an endpoint.",
                hint="Name the endpoint, or leave out log=True.",
            )
        version = rooms.models.get(ref)
        tree = rooms.repos.commit_by_id(version.commit).tree
        return InProcess(
            version.model,
            load_model(rooms.store, tree, served=True),
            revision="",
            number=0,
            model_version=version.id,
            version=str(version.version),
            global_id=version.global_id,
        )
    live = rooms.serving.live(ref)
    if live is None or live.state not in {"live", "canary"}:
        raise NotReady(
            "endpoint.empty",
            f"No model is on {ref} yet.",
            hint="`clew status` says what is missing: data, training, or a blessing.",
        )
    definition = rooms.serving.definition(ref)
    version = rooms.models.get(live.model_version)
    tree = rooms.repos.commit_by_id(version.commit).tree
    return InProcess(
        ref,
        load_model(rooms.store, tree, served=True),
        revision=live.id,
        number=live.number,
        model_version=version.id,
        version=str(version.version),
        global_id=live.global_id,
        spool_dir=rooms.settings.home / "spool" if log else None,
        log=definition.log,
        redact=definition.redact,
    )
