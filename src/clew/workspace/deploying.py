"""A model version goes on an endpoint.

Knows models and serving; how traffic moves then is for serving.
"""

from __future__ import annotations

from collections.abc import Sequence

from clew.base.records import ModelVersion, Revision
from clew.db import Tx
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
    beside: Sequence[str] | None = None,
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
        beside=beside,
        tx=tx,
    )
