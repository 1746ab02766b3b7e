"""What a person may do from a page: log in, cancel, pause, retry, run, deploy, roll back.

Plain forms that post and go back. Whether they come from a page of ours is checked by the guard;
see ``guard.py`` for why no token in the form is needed.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form
from fastapi.responses import RedirectResponse, Response

from clew.base.errors import Invalid
from clew.server.guard import COOKIE, same, session
from clew.server.web.show import Shown

router = APIRouter(include_in_schema=False)
Text = Annotated[str, Form()]


@router.get("/login")
def login_page(page: Shown, next: str = "/") -> Response:
    """Ask for the token."""
    return page.show("login.html", next=_local(next), wrong=False)


@router.post("/login")
def login(page: Shown, token: Text = "", next: Text = "/") -> Response:
    """Check the token; a cookie that scripts cannot read stands for it from then on."""
    wanted = page.request.app.state.token
    if wanted and not same(token.strip(), wanted):
        return page.show("login.html", code=401, next=_local(next), wrong=True)
    answer = RedirectResponse(_local(next), 303)
    if wanted:
        value, age_s = session(wanted)
        answer.set_cookie(
            COOKIE,
            value,
            max_age=age_s,
            httponly=True,
            samesite="strict",
            secure=page.request.url.scheme == "https",
        )
    return answer


@router.post("/logout")
def logout() -> Response:
    """Forget the cookie."""
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


@router.post("/jobs/{job_id}/cancel")
def cancel(page: Shown, job_id: str) -> Response:
    """Stop a job that has not ended."""
    return RedirectResponse(f"/jobs/{page.verbs.cancel(job_id).id}", 303)


@router.post("/jobs/{job_id}/pause")
def pause(page: Shown, job_id: str) -> Response:
    """Let a job begin nothing more."""
    return RedirectResponse(f"/jobs/{page.verbs.pause(job_id)[0].id}", 303)


@router.post("/jobs/{job_id}/resume")
def resume(page: Shown, job_id: str) -> Response:
    """Let a paused job go on."""
    return RedirectResponse(f"/jobs/{page.verbs.resume(job_id)[0].id}", 303)


@router.post("/jobs/{job_id}/retry")
def retry(page: Shown, job_id: str) -> Response:
    """Run what failed of a job once more; to the new job."""
    return RedirectResponse(f"/jobs/{page.verbs.retry(job_id)[0].id}", 303)


@router.post("/pipelines/{pipeline}/run")
def run(page: Shown, pipeline: str, step: Text = "") -> Response:
    """Run a step anew; to the change that this is."""
    global_id = page.verbs.run(pipeline, step or None, reason="asked for on its page")
    return RedirectResponse(f"/changes/{global_id}", 303)


@router.post("/endpoints/{name}/deploy")
def deploy(
    page: Shown,
    name: str,
    version: Text,
    override_by: Text = "",
    override_reason: Text = "",
    champion: Text = "",
) -> Response:
    """Put a model version on an endpoint."""
    page.verbs.deploy(
        name,
        version,
        override_by=override_by.strip(),
        override_reason=override_reason.strip(),
        champion=bool(champion),
    )
    return RedirectResponse(f"/endpoints/{quote(name, safe='')}", 303)


@router.post("/endpoints/{name}/rollback")
def rollback(page: Shown, name: str, reason: Text = "") -> Response:
    """Give the traffic back to the revision before."""
    page.verbs.rollback(name, reason=reason.strip() or "asked for on its page")
    return RedirectResponse(f"/endpoints/{quote(name, safe='')}", 303)


@router.post("/endpoints/{name}/traffic")
def traffic(
    page: Shown, name: str, revision: Text, what: Text = "weight", percent: Text = ""
) -> Response:
    """Give revisions a share of the requests, copies of them, or one of them all."""
    said = "asked for on its page"
    if what == "promote":
        page.verbs.set_traffic(name, promote=revision.strip(), reason=said)
    elif what == "shadow":
        shares = _shares(revision, percent or "100")
        page.verbs.set_traffic(name, shadow=shares, reason=said)
    else:
        page.verbs.set_traffic(name, weights=_shares(revision, percent), reason=said)
    return RedirectResponse(f"/endpoints/{quote(name, safe='')}", 303)


@router.post("/endpoints/{name}/arms")
def arms(page: Shown, name: str, arms: Text, kind: Text = "ab_test") -> Response:
    """Put several versions on an endpoint at once."""
    given: dict[str, float | None] = {}
    for word in arms.replace(",", " ").split():
        version, equals, percent = word.partition("=")
        given[version] = _percent(percent) if equals else None
    page.verbs.deploy_arms(name, given, rollout={"kind": kind})
    return RedirectResponse(f"/endpoints/{quote(name, safe='')}", 303)


def _shares(words: str, percent: str) -> dict[str, float]:
    """Revision → percent, of ``3`` with a percentage beside it, or of ``3=20 4=10``."""
    found = {}
    for word in words.replace(",", " ").split():
        revision, equals, share = word.partition("=")
        found[revision] = _percent(share if equals else percent)
    return found


def _percent(text: str) -> float:
    try:
        return float(text.strip().rstrip("%"))
    except ValueError:
        raise Invalid(
            "traffic.weights", f"{text!r} is no percentage.", hint="Give a number from 0 to 100."
        ) from None


def _local(target: str) -> str:
    """A path on this server; anything else becomes the overview."""
    plain = target.startswith("/") and not target.startswith(("//", "/\\"))
    return target if plain and "\n" not in target and "\r" not in target else "/"
