"""Versions, verdicts and aliases as rows: read, add, move.

Knows no worker and no bytes; every function works within the transaction that it is given.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import asdict, replace

from clew.base import clock
from clew.base.address import check_ref_name
from clew.base.errors import Invalid, NotFound
from clew.base.ids import new_id
from clew.base.records import AliasMove, ModelVersion, Node, Verdict
from clew.db import Tx
from clew.lineage import Lineage
from clew.models import tables
from clew.models.records import Package
from clew.store import digest_of

CHAMPION = "champion"


def versions(tx: Tx, query: tables.Rows, parameters: dict[str, Any] | None = None) -> Versions:
    """The versions that a query over their table gives."""
    aliases: dict[str, list[str]] = {}
    for row in tx.execute(tables.ALIASES):
        aliases.setdefault(row.version, []).append(row.alias)
    return [tables.version_of(row, aliases) for row in tx.execute(query, parameters)]


Versions = list[ModelVersion]


def find(tx: Tx, ref: str) -> ModelVersion:
    """The version of an id (or its beginning), ``model@3`` or ``model@alias``.

    Raises:
        NotFound: ``model.unknown``.
        Invalid: ``ref.ambiguous``.
    """
    model, at, name = ref.partition("@")
    table = tables.model_versions
    if not at:
        found = versions(tx, tables.VERSIONS.where(table.c.id.startswith(ref, autoescape=True)))
        exact = [one for one in found if one.id == ref]
        return _only(exact or (found if len(ref) >= 4 else []), ref)
    query = tables.VERSIONS.where(table.c.model == model)
    if name.isdigit():
        return _only(versions(tx, query.where(table.c.version == int(name))), ref)
    return _only([one for one in versions(tx, query) if name in one.aliases], ref)


def champion_of(tx: Tx, model: str) -> ModelVersion | None:
    """The version that the alias ``champion`` of a model stands on."""
    for row in tx.execute(tables.ALIASES):
        if row.model == model and row.alias == CHAMPION:
            return find(tx, row.version)
    return None


def add_version(tx: Tx, lineage: Lineage, package: Package, commit: str) -> ModelVersion:
    """A new version of the model of a package, whose commit is finished. Idempotent."""
    known = versions(tx, tables.VERSION_OF_COMMIT, {"commit": commit})
    if known:
        return known[0]
    run = package.run
    number = (tx.execute(tables.LAST_NUMBER, {"model": run.model}).scalar() or 0) + 1
    version_id = new_id()
    row = {
        "id": version_id,
        "model": run.model,
        "version": number,
        "global_id": run.global_id,
        "commit": commit,
        "job": run.job,
        "experiment": run.experiment,
        "trial": run.trial,
        "params": run.params,
        "signature": package.signature,
        "state": "candidate",
        "metrics": {},
        "test_commit": package.test_commit,
        "verdict": None,
        "created_us": clock.to_us(clock.now()),
    }
    tx.execute(tables.model_versions.insert(), row)
    node = Node(
        kind="model_version",
        id=version_id,
        title=f"{run.model} version {number}",
        global_id=run.global_id,
        detail={"model": run.model, "version": number, "params": run.params},
    )
    trained = [(run.trial, "trained")] if run.trial else []
    lineage.add(tx, node, [(commit, "packaged"), *trained])
    tx.emit(
        "model.created",
        subject=version_id,
        global_id=run.global_id,
        data={"model": run.model, "version": number},
    )
    return find(tx, version_id)


def add_verdict(tx: Tx, lineage: Lineage, verdict: Verdict, *, job: str, state: str) -> Verdict:
    """Sign and keep a verdict, and let its version know."""
    version = find(tx, verdict.model_version)
    signed = replace(verdict, digest=sign(verdict))
    row = asdict(signed)
    row |= {"created_us": clock.to_us(row.pop("created_at")), "model": version.model, "job": job}
    tx.execute(tables.verdicts.insert(), row)
    tx.execute(
        tables.JUDGED,
        {
            "id_": version.id,
            "state_": state,
            "metrics_": verdict.metrics,
            "test_commit_": verdict.test_commit or None,
            "verdict_": verdict.id,
        },
    )
    node = Node(
        kind="verdict",
        id=verdict.id,
        title=f"{version.model} version {version.version} {state}",
        global_id=verdict.global_id,
        detail={"blessed": verdict.blessed, "digest": signed.digest},
    )
    sources = [(version.id, "judged")]
    sources += [(verdict.test_commit, "judged on")] if verdict.test_commit else []
    sources += [(verdict.commit, "reported")] if verdict.commit else []
    lineage.add(tx, node, sources)
    tx.emit(
        "verdict.given",
        subject=verdict.id,
        global_id=verdict.global_id,
        data={"model_version": version.id, "model": version.model, "blessed": verdict.blessed}
        | {"metrics": verdict.metrics}
        | ({"overridden_by": verdict.overridden_by} if verdict.overridden_by else {}),
    )
    return signed


def sign(verdict: Verdict) -> str:
    """The digest of all that a verdict says but the digest itself."""
    content = msgspec.to_builtins(replace(verdict, digest=""))
    content["created_at"] = clock.to_us(verdict.created_at)
    return digest_of("verdict", content)


def move_alias(tx: Tx, move: AliasMove) -> None:
    """Let an alias stand on a version of its model from now on.

    Raises:
        Invalid: ``branch.name`` for a name that no alias can have, ``alias.number`` for one that
            would read as a version.
    """
    check_ref_name(move.alias)
    if move.alias.isdigit():
        raise Invalid(
            "alias.number",
            f"An alias named {move.alias!r} would read as a version.",
            hint="Name it by a word, such as challenger.",
        )
    tx.execute(
        tables.alias_moves.insert(),
        {
            "model": move.model,
            "alias": move.alias,
            "version": move.version,
            "global_id": move.global_id,
            "moved_by": move.moved_by,
            "reason": move.reason,
            "moved_us": clock.to_us(move.moved_at),
            "back": move.back,
        },
    )
    data = {"alias": move.alias, "to": move.version}
    tx.emit("alias.moved", subject=move.model, global_id=move.global_id, data=data)


def history(tx: Tx, model: str) -> list[AliasMove]:
    """All moves of the aliases of a model, newest first."""
    return [
        AliasMove(
            model=row.model,
            alias=row.alias,
            version=row.version,
            number=row.number,
            global_id=row.global_id,
            moved_by=row.moved_by,
            reason=row.reason,
            moved_at=clock.from_us(row.moved_us),
            back=row.back,
        )
        for row in tx.execute(tables.ALIAS_HISTORY, {"model": model})
    ]


def find_verdict(tx: Tx, verdict_id: str) -> Verdict:
    """The verdict of an id or its beginning.

    Raises:
        NotFound: ``verdict.unknown``.
    """
    prefix = tables.verdicts.c.id.startswith(verdict_id, autoescape=True)
    found = [tables.verdict_of(row) for row in tx.execute(tables.VERDICTS.where(prefix).limit(2))]
    if len(found) != 1 or len(verdict_id) < 4:
        raise NotFound(
            "verdict.unknown",
            f"{verdict_id!r} is not the id of {'one' if found else 'a'} verdict.",
            hint="`clew model MODEL@VERSION` shows the verdict on a version.",
        )
    return found[0]


def _only(found: Versions, ref: str) -> ModelVersion:
    if len(found) == 1:
        return found[0]
    if found:
        raise Invalid(
            "ref.ambiguous",
            f"{ref!r} is the beginning of {len(found)} model versions.",
            hint="Give more characters of the id.",
        )
    raise NotFound(
        "model.unknown",
        f"There is no model version {ref!r}.",
        hint="Name it by its id, pipeline/step@3 or pipeline/step@champion; see them: clew models",
    )


def crowned(version: ModelVersion, verdict: Verdict) -> AliasMove:
    """The move of the champion to a version that a gate has blessed."""
    move = moved(version, CHAMPION, "gate", f"blessed by verdict {verdict.id}")
    return replace(move, global_id=verdict.global_id, moved_at=verdict.created_at)


def moved(
    version: ModelVersion, alias: str, by: str, reason: str, *, back: bool = False
) -> AliasMove:
    """The move of an alias to a version, now."""
    return AliasMove(
        model=version.model,
        alias=alias,
        version=version.id,
        number=version.version,
        global_id=version.global_id,
        moved_by=by,
        reason=reason,
        moved_at=clock.now(),
        back=back,
    )
