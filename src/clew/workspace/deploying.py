"""A model version goes on an endpoint: by a verdict, or by hand.

Knows models and serving; how traffic moves then is for serving.
"""

from __future__ import annotations

from clew.base.errors import Denied, Invalid
from clew.base.ids import new_id
from clew.base.records import ModelVersion, Revision
from clew.db import Tx
from clew.models import Models
from clew.repos import Repos
from clew.serving import Rollout, Serving

BLESSED = frozenset({"blessed", "overridden"})


def deploy_version(
    serving: Serving,
    repos: Repos,
    endpoint: str,
    version: ModelVersion,
    *,
    global_id: str,
    reason: str,
    verdict: str | None,
    cause: str,
    rollout: Rollout | None = None,
    tx: Tx | None = None,
) -> Revision:
    """Hand a version to serving; idempotent for one ``cause``. The caller has checked that it may.

    Raises NotFound ``endpoint.unknown``.
    """
    commit = repos.commit_by_id(version.commit, tx=tx)
    return serving.deploy(
        endpoint,
        model_version=version.id,
        version=version.version,
        commit=commit.id,
        tree=commit.tree,
        signature=version.signature,
        global_id=global_id,
        reason=reason,
        verdict=verdict,
        cause=cause,
        rollout=rollout,
        tx=tx,
    )


def deploy_by_hand(
    serving: Serving,
    repos: Repos,
    models: Models,
    endpoint: str,
    ref: str,
    *,
    by: str,
    reason: str,
    champion: bool = False,
    rollout: Rollout | None = None,
) -> Revision:
    """Put a model version on an endpoint; one that is not blessed needs a name and a reason.

    ``champion``: it also becomes what later versions are compared with (design/0008).

    Raises:
        Denied: ``model.not_blessed``.
        Invalid: ``override.incomplete``, ``endpoint.other_model``.
        NotFound: ``endpoint.unknown``, ``model.unknown``.
    """
    definition = serving.definition(endpoint)
    version = models.get(ref)
    if version.model != definition.model:
        raise Invalid(
            "endpoint.other_model",
            f"{endpoint} serves {definition.model}, and {ref} is a version of {version.model}.",
            hint=f"`clew models {definition.model}` lists what it can serve.",
        )
    if bool(by) != bool(reason) or (champion and not by):
        raise Invalid(
            "override.incomplete",
            "An override, or a champion made by hand, needs both who and why.",
            hint='Give --by NAME and --reason "…".',
        )
    if version.state not in BLESSED:
        if not by:
            raise Denied(
                "model.not_blessed",
                f"{version.model}@{version.version} is {version.state}, not blessed.",
                hint='See `clew model`; to override, give --by NAME and --reason "…".',
            )
        models.override(version.id, by=by, reason=reason, champion=champion)
        version = models.get(version.id)
    elif champion and "champion" not in version.aliases:
        models.alias("champion", version.id, by=by, reason=reason)
    return deploy_version(
        serving,
        repos,
        endpoint,
        version,
        global_id=new_id(),
        reason=f"Overridden by {by}: {reason}" if by else "Deployed by hand.",
        verdict=version.verdict,
        cause="",
        rollout=rollout,
    )
