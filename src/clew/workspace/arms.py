"""Versions that are put on an endpoint by hand: one, or several as arms of one rollout.

Knows models, graphs and serving; how traffic moves then is for serving.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from clew.base.arms import GRAPH, shares_of
from clew.base.errors import Denied, Invalid
from clew.base.ids import new_id
from clew.base.records import ModelVersion, Revision
from clew.base.records.traffic import Rollout
from clew.db import Tx
from clew.serving import Serving
from clew.workspace.deploying import BLESSED, deploy_version
from clew.workspace.graphs import check_fits
from clew.workspace.rooms import Rooms

Arm = ModelVersion | str
"""A version, or the name of an endpoint that is a graph."""


def deploy_by_hand(
    rooms: Rooms,
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
    ``graph:NAME`` puts the graph that another endpoint is on this one.

    Raises:
        Denied: ``model.not_blessed``.
        Invalid: ``override.incomplete``, ``endpoint.other_model``; of a graph: ``graph.cycle``,
            ``endpoint.no_graph``.
        NotFound: ``endpoint.unknown``, ``model.unknown``.
    """
    arm = _checked(rooms, endpoint, ref, by=by, reason=reason, champion=champion)
    return _put(rooms, endpoint, arm, new_id(), _why(by, reason), rollout)


def deploy_together(
    rooms: Rooms,
    endpoint: str,
    arms: Mapping[str, float | None] | Sequence[str],
    rollout: Rollout,
    *,
    by: str,
    reason: str,
) -> list[Revision]:
    """Put several versions on an endpoint at once, as arms of one rollout. In one transaction.

    Idempotent for as long as exactly these stand there.

    Raises:
        Invalid: ``rollout.arms``, ``traffic.weights``, and as :func:`deploy_by_hand`.
        Conflict: ``endpoint.no_live``.
        Denied, NotFound: as :func:`deploy_by_hand`.
    """
    serving = rooms.serving
    serving.definition(endpoint)
    shares = shares_of(arms, rollout.kind)
    with rooms.db.read() as tx:
        serving.pending(tx, endpoint)  # before an override is written
    found = [_checked(rooms, endpoint, ref, by=by, reason=reason, champion=False) for ref in shares]
    subjects = [_subject(serving, one) for one in found]
    if twice := [ref for ref, one in zip(shares, subjects, strict=True) if subjects.count(one) > 1]:
        raise Invalid(
            "rollout.arms",
            f"These arms cannot come together: {' and '.join(twice)} are the same.",
            hint="Give each version once.",
        )
    ways = [_way(rollout, share, len(shares)) for share in shares.values()]
    with rooms.db.begin() as tx:
        standing = serving.pending(tx, endpoint)
        copied = rollout.kind == "shadow"
        pending = [one for one in standing if (one[2].kind == "shadow") == copied]
        known = {subject: way for subject, _, way in pending}
        if dict(zip(subjects, ways, strict=True)) == known:
            return [one for _, one, _ in pending]
        global_id, ids = new_id(), list[str]()
        for arm, way in zip(found, ways, strict=True):
            told = _put(rooms, endpoint, arm, global_id, _why(by, reason), way, beside=ids, tx=tx)
            ids.append(told.id)
    serving.tick()  # where nobody serves there is nothing to wait for
    return [serving.revision(id) for id in ids]


def _way(rollout: Rollout, share: float, arms: int) -> Rollout:
    if rollout.kind == "shadow":
        return replace(rollout, weight=share, most=max(rollout.most, arms))
    return replace(rollout, weight=share)


def _subject(serving: Serving, arm: Arm) -> str:
    """The version's id, or what a graph's version is."""
    if not isinstance(arm, str):
        return arm.id
    graph = serving.definition(arm).graph
    return graph.version if graph else arm


def _why(by: str, reason: str) -> str:
    return f"Overridden by {by}: {reason}" if by else "Deployed by hand."


def _put(
    rooms: Rooms,
    endpoint: str,
    arm: Arm,
    global_id: str,
    reason: str,
    rollout: Rollout | None,
    *,
    beside: Sequence[str] | None = None,
    tx: Tx | None = None,
) -> Revision:
    if isinstance(arm, str):
        return rooms.serving.deploy_graph(
            endpoint,
            source=arm,
            global_id=global_id,
            reason=reason,
            rollout=rollout,
            beside=beside,
            tx=tx,
        )
    return deploy_version(
        rooms.serving,
        rooms.repos,
        endpoint,
        arm,
        global_id=global_id,
        reason=reason,
        verdict=arm.verdict,
        cause="",
        rollout=rollout,
        beside=beside,
        tx=tx,
    )


def _checked(rooms: Rooms, endpoint: str, ref: str, *, by: str, reason: str, champion: bool) -> Arm:
    """What is meant, if it may go on the endpoint; an override is written."""
    definition = rooms.serving.definition(endpoint)
    if ref.startswith(GRAPH):
        name = ref.removeprefix(GRAPH)
        check_fits(rooms, endpoint, name)
        return name
    models = rooms.models
    version = models.get(ref)
    if definition.graph is not None:
        raise Invalid(
            "endpoint.other_model",
            f"{endpoint} is a graph, and {ref} is a version of {version.model}.",
            hint="Deploy it to the endpoint of its model, or make the graph an arm of that one: "
            f"clew deploy ENDPOINT {GRAPH}{endpoint}",
        )
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
        return models.get(version.id)
    if champion and "champion" not in version.aliases:
        models.alias("champion", version.id, by=by, reason=reason)
    return version
