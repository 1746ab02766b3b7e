"""An error that was answered ends here.

Knows nothing of what failed. Without it Starlette hands the error on after the answer, and uvicorn
closes the connection under the client's next request.
"""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clew.server.wire import TOLD

_log = logging.getLogger("clew.server")


class Faults:
    """Logs errors whose answer is whole; what broke in the middle of one still closes it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection or request."""
        whole = False
        told: list[Exception] = []
        scope[TOLD] = told

        async def watch(message: Message) -> None:
            nonlocal whole
            await send(message)
            whole = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            if not whole:
                raise
            if error not in told:
                _log.exception("%s %s failed", scope.get("method"), scope.get("path"))
