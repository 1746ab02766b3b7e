"""The card of a model version, made of what its room keeps, its pipeline says and its data tell.

Knows which room to ask for what; how a card reads is for ``card_text``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from msgspec.structs import asdict, replace

from clew.base import clock
from clew.base.errors import NotFound
from clew.base.records import ModelVersion
from clew.base.records.card_words import CardText
from clew.base.records.cards import ModelCard, NineThings, SourceCommit
from clew.workspace.card_text import markdown_of
from clew.workspace.rooms import Rooms

MOST_COMMITS = 500
"""So many commits are looked at for the raw data behind a model."""


def card_of(rooms: Rooms, ref: str) -> ModelCard:
    """The card of a model version."""
    version = rooms.models.get(ref)
    verdict = rooms.models.verdict(version.verdict) if version.verdict else None
    then, now = rooms.models.text_then(version.id), _text_now(rooms, version)
    text = now if now is not None else then or CardText()
    card = ModelCard(
        version=version,
        text=text,
        text_then=then if then is not None and then != text else None,
        things=things_of(rooms, version),
        verdict=verdict,
        unsaid=tuple(name for name, said in asdict(text).items() if not said),
        made_at=clock.now(),
        report=rooms.models.report(version.id) if verdict and verdict.report else None,
    )
    return replace(card, markdown=markdown_of(card))


def things_of(rooms: Rooms, version: ModelVersion) -> NineThings:
    """What is kept of a version, with the raw data behind it."""
    found = rooms.models.things(version.id)
    sources = tuple(sources_of(rooms, found.lineage.features)) if found.lineage.features else ()
    return replace(found, lineage=replace(found.lineage, sources=sources))


def sources_of(rooms: Rooms, commit_id: str) -> Iterator[SourceCommit]:
    """The commits of source repos that a commit goes back to, each once, by repo."""
    kinds = {repo.name: repo.kind for repo in rooms.repos.list()}
    queue, seen, found = deque([commit_id]), {commit_id}, []
    while queue and len(seen) <= MOST_COMMITS:
        try:
            commit = rooms.repos.commit_by_id(queue.popleft())
        except NotFound:
            continue  # squashed or dropped since
        if kinds.get(commit.repo) == "source":
            found.append(commit)
        for one in commit.provenance:
            if one not in seen:
                seen.add(one)
                queue.append(one)
    for commit in sorted(found, key=lambda one: (one.repo, one.id)):
        yield SourceCommit(
            repo=commit.repo, commit=commit.id, files=commit.files, size_bytes=commit.size_bytes
        )


def _text_now(rooms: Rooms, version: ModelVersion) -> CardText | None:
    """What the pipeline says of its model as it stands; None where it does not train it now."""
    try:
        definition = rooms.pipelines.definition(version.model.partition("/")[0])
    except NotFound:
        return None
    step = next((one for one in definition.steps if one.output_repo == version.model), None)
    if step is None or step.kind != "train":
        return None
    return step.policy.card or CardText()
