"""Templates to responses.

Knows Jinja and this app's template and static files, and nothing of what is shown.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.responses import FileResponse, HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from msgspec import Struct
from starlette.staticfiles import StaticFiles

from clew.base.errors import ClewError
from clew.server.call import ServedVerbs
from clew.server.guard import COOKIE
from clew.server.web import words
from clew.server.web.evidence import broken_rules, table_of
from clew.server.wire import status_of

_HERE = Path(__file__).parent


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(words.FILTERS)
    environment.globals.update(
        href=words.href,
        link_of=words.link_of,
        subject_link=words.subject_link,
        took=words.took,
        broken_rules=broken_rules,
        table_of=table_of,
        clew_version=version("clew"),
    )
    return environment


_TEMPLATES = _environment()


class Page(Struct, frozen=True, kw_only=True):
    """One request for a page: the verbs, and how to show what they say."""

    request: Request
    verbs: ServedVerbs

    def show(self, template: str, *, code: int = 200, **values: object) -> Response:
        """A template with values, as HTML."""
        return _show(self.request, template, code, values)


def _page(request: Request) -> Page:
    return Page(request=request, verbs=cast(ServedVerbs, request.app.state.verbs))


Shown = Annotated[Page, Depends(_page)]


def wants_page(request: Request) -> bool:
    """Whether a person with a browser asks, not a program."""
    if request.url.path.startswith(("/api/", "/v1/", "/v2/", "/openapi", "/metrics")):
        return False
    return "text/html" in request.headers.get("accept", "")


def show_error(request: Request, error: ClewError) -> Response:
    """An error as a page."""
    return _show(request, "error.html", status_of(error), {"error": error})


def icon() -> Response:
    """The icon, for browsers that ask for it by its old name."""
    return FileResponse(_HERE / "static" / "clew.svg", media_type="image/svg+xml")


def static_files() -> StaticFiles:
    """The own style sheet, script and icon."""
    return StaticFiles(directory=_HERE / "static")


def _show(request: Request, template: str, status: int, values: dict[str, object]) -> Response:
    shown = _TEMPLATES.get_template(template).render(
        here=request.url.path, logged_in=COOKIE in request.cookies, **values
    )
    return HTMLResponse(shown, status, {"Cache-Control": "no-store"})
