"""Who may ask: Host, Origin and login are checked before anything else sees a request.

Knows HTTP headers and one token; nothing of what is asked. Pure ASGI, so streams pass untouched.

Why Host: a page on a foreign name that resolves to 127.0.0.1 (DNS rebinding) is same-origin to a
browser, and only the Host header betrays it. Why Origin: a form on any page can post to loopback.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from msgspec import Struct
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clew.base.errors import ClewError, Denied
from clew.server.wire import error_response

COOKIE = "clew_session"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_SESSION_S = 14 * 86_400
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OPEN = frozenset(
    {"/login", "/api/v1/health", "/v2/health/live", "/v2/health/ready", "/favicon.ico"}
)
HOOKS = "/api/v1/hooks/"
"""What is posted there shows its own secret."""
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Rules(Struct, frozen=True, kw_only=True):
    """Who may ask. ``hosts``: names that a Host header may carry (empty: any; then a token is
    what protects). ``token``: '' where no login is needed.
    """

    hosts: frozenset[str]
    token: str


def rules(*, token: str, allowed_hosts: Collection[str] | None) -> Rules:
    """Loopback names alone without a token; any name with one, unless names are given."""
    if allowed_hosts is None:
        return Rules(hosts=frozenset() if token else LOOPBACK, token=token)
    names = frozenset(host.lower() for host in allowed_hosts)
    return Rules(hosts=frozenset() if "*" in names else names | LOOPBACK, token=token)


def session(token: str) -> tuple[str, int]:
    """The value of the login cookie and its age in seconds; it does not hold the token."""
    end = str(int(time.time()) + _SESSION_S)
    return f"{end}.{_sign(token, end)}", _SESSION_S


def knows_token(request: Request, token: str) -> bool:
    """Whether a request has the login of the server: its token, or a session; '' asks nobody."""
    return not token or _bearer(request.headers, token) or _cookie(request, token)


def same(given: str, token: str) -> bool:
    """Whether two tokens are equal, in time that does not tell where they differ."""
    return hmac.compare_digest(given.encode(), token.encode())


class Guard:
    """The outermost application: refuses, or passes on; safe headers on every answer."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection; other than HTTP only the lifespan passes."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            refusal = self._refusal(Request(scope))
            await (refusal or self._app)(scope, receive, _safely(send))

    def _refusal(self, request: Request) -> Response | None:
        headers = request.headers
        try:
            hooked = request.url.path.startswith(HOOKS)
            check_stranger(request, headers.get("host", ""), self._rules, forms=not hooked)
            self._check_login(request)
        except ClewError as error:
            if error.code == "auth.required" and _is_page(request):
                back = quote(request.url.path + (f"?{request.url.query}" * bool(request.url.query)))
                return RedirectResponse(f"/login?next={back}", 303)
            return error_response(error)
        return None

    def _check_login(self, request: Request) -> None:
        if not self._rules.token or _is_open(request.url.path):
            return
        if knows_token(request, self._rules.token):
            return
        raise Denied(
            "auth.required",
            "This server needs a token.",
            hint="Set CLEW_TOKEN, or send it as `Authorization: Bearer TOKEN`.",
        )


def check_stranger(request: Request, host: str, rules: Rules, *, forms: bool = True) -> None:
    """Refuse what a browser was led to by the page of another site.

    Without ``forms`` a form without an origin passes: for requests that no form can make.

    Raises:
        Denied: ``host.denied``, ``origin.denied``.
    """
    _check_host(host, rules.hosts)
    _check_origin(request, forms=forms)


def host_name(host: str) -> str:
    """The name in a Host header, without its port, in lower case."""
    name = (urlsplit(f"//{host}").netloc.rpartition("@")[2]).lower()
    if name.rpartition(":")[2].isdigit() and not name.endswith("]"):
        name = name.rpartition(":")[0]
    return name


def _check_host(host: str, allowed: frozenset[str]) -> None:
    if allowed and host_name(host) not in allowed:
        raise Denied(
            "host.denied",
            f"This server does not answer to the name {host!r}.",
            hint="Use http://127.0.0.1 with its port, or start it with `--allow-host NAME`.",
        )


def _check_origin(request: Request, *, forms: bool) -> None:
    """Same origin or none; a form of a page must say where it comes from (no form can PUT)."""
    headers = request.headers
    origin = headers.get("origin")
    changes = request.method not in _SAFE
    foreign = (
        origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    )
    crossed = changes and headers.get("sec-fetch-site", "same-origin") not in {
        "same-origin",
        "none",
    }
    silent = forms and request.method == "POST" and origin is None and _is_form(headers)
    if foreign or crossed or silent:
        raise Denied(
            "origin.denied",
            f"A request from {origin or 'another site'} is refused: it is not this server's own "
            "page.",
            hint="Open the page on the server itself, or use the API without an Origin header.",
        )


def _is_open(path: str) -> bool:
    return path in _OPEN or path.startswith(("/static/", HOOKS))


def _is_form(headers: Headers) -> bool:
    return headers.get("content-type", "").startswith(_FORMS)


def _is_page(request: Request) -> bool:
    return request.method == "GET" and "text/html" in request.headers.get("accept", "")


def _bearer(headers: Headers, token: str) -> bool:
    """The token as it is, or as the password of any user: some clients know that form alone."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        return same(_password(given.strip()), token)
    return scheme.lower() == "bearer" and same(given.strip(), token)


def _password(given: str) -> str:
    try:
        return base64.b64decode(given, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _cookie(request: Request, token: str) -> bool:
    try:
        morsel = SimpleCookie(request.headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return False
    end, _, signature = (morsel.value if morsel else "").partition(".")
    return end.isdigit() and int(end) > time.time() and same(signature, _sign(token, end))


def _sign(token: str, end: str) -> str:
    key = hashlib.sha256(b"clew session\0" + token.encode()).digest()
    return hmac.new(key, end.encode(), hashlib.sha256).hexdigest()


def _safely(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers
