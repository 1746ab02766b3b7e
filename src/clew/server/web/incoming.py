"""Pages of what comes in by itself: sources and triggers, with what set each firing off.

Thin over the verbs; knows nothing of how sources are read or conditions met.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form
from fastapi.responses import RedirectResponse, Response
from msgspec import Struct

from clew.base.records.feeds import FiringInfo
from clew.server.web.show import Shown
from clew.server.web.words import href

router = APIRouter(include_in_schema=False)
Text = Annotated[str, Form()]

FIRINGS = 50
COMMITS = 20


class Evidence(Struct, frozen=True, kw_only=True):
    """One cause of a firing: in words, with the id and the page of what it happened to."""

    text: str
    id: str = ""
    link: str = ""


@router.get("/triggers")
def triggers(page: Shown) -> Response:
    """All triggers with how far each is, and the last firings of all."""
    return page.show(
        "triggers.html",
        triggers=page.verbs.triggers(),
        firings=_told(page.verbs.firings(limit=FIRINGS)),
    )


@router.get("/triggers/{name:path}")
def trigger(page: Shown, name: str) -> Response:
    """A trigger: its condition, how far it is, what it did and why."""
    found = page.verbs.trigger(name)
    full = f"{found.pipeline}/{found.name}"
    return page.show(
        "trigger.html",
        trigger=found,
        name=full,
        firings=_told(page.verbs.firings(full, limit=FIRINGS)),
    )


@router.post("/triggers/{name:path}/pause")
def pause_trigger(page: Shown, name: str) -> Response:
    """Let a trigger look at nothing."""
    page.verbs.pause_trigger(name)
    return RedirectResponse(f"/triggers/{quote(name)}", 303)


@router.post("/triggers/{name:path}/resume")
def resume_trigger(page: Shown, name: str) -> Response:
    """Let a trigger look again."""
    page.verbs.pause_trigger(name, paused=False)
    return RedirectResponse(f"/triggers/{quote(name)}", 303)


@router.post("/triggers/{name:path}/fire")
def fire_trigger(page: Shown, name: str, reason: Text = "") -> Response:
    """Set a trigger off by hand."""
    page.verbs.fire_trigger(name, reason=reason.strip() or "asked for on its page")
    return RedirectResponse(f"/triggers/{quote(name)}", 303)


@router.get("/sources")
def sources(page: Shown) -> Response:
    """All sources that commit by themselves."""
    return page.show("sources.html", sources=page.verbs.sources())


@router.get("/sources/{name:path}")
def source(page: Shown, name: str) -> Response:
    """A source: where it reads, how far it is, what it committed last."""
    found = page.verbs.source(name)
    log = page.verbs.log(found.repo, branch=found.branch, limit=COMMITS) if found.commits else []
    own = [one for one in log if one.meta.get("source") == found.name]
    return page.show("source.html", source=found, commits=own)


@router.post("/sources/{name:path}/pause")
def pause_source(page: Shown, name: str) -> Response:
    """Read a source no more."""
    page.verbs.pause_source(name)
    return RedirectResponse(f"/sources/{quote(name)}", 303)


@router.post("/sources/{name:path}/resume")
def resume_source(page: Shown, name: str) -> Response:
    """Read a source again."""
    page.verbs.pause_source(name, paused=False)
    return RedirectResponse(f"/sources/{quote(name)}", 303)


@router.post("/sources/{name:path}/poll")
def poll_source(page: Shown, name: str) -> Response:
    """Read a source now."""
    page.verbs.poll_source(name)
    return RedirectResponse(f"/sources/{quote(name)}", 303)


def _told(firings: list[FiringInfo]) -> list[tuple[FiringInfo, list[Evidence]]]:
    return [(one, [evidence_of(cause) for cause in one.causes]) for one in firings]


def evidence_of(cause: str) -> Evidence:
    """What a cause (``commit/ID``, ``tick/LEAF/INSTANT``, ``event/SEQ``, ``hand/ID``) says."""
    kind, _, rest = cause.partition("/")
    if kind == "commit":
        return Evidence(text="commit", id=rest, link=href("commit", rest))
    if kind == "tick":
        return Evidence(text=f"the schedule's {rest.partition('/')[2]}")
    if kind == "event":
        return Evidence(text=f"event {rest}")
    if kind == "hand":
        return Evidence(text="a hand")
    return Evidence(text=cause)
