"""What every route of the API gets: the verbs, and how to answer.

Knows how a request leads to the workspace that the app serves, and nothing of any one route.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Protocol, cast

from anyio import CapacityLimiter
from fastapi import Depends, Query, Request
from fastapi.responses import Response
from msgspec import Struct

from clew.base.address import DEFAULT_BRANCH
from clew.base.records import Applied, JobCount, ModelVersion, Plan
from clew.base.records.feeds import Received, Replayed
from clew.base.records.imports import ImportWish
from clew.base.verbs import Source, Verbs
from clew.server.tail import Tail
from clew.server.wire import encode

Limit = Annotated[int, Query(ge=1, le=1_000_000, description="The most that is answered.")]


class ServedVerbs(Verbs, Protocol):
    """A workspace that can be served: every verb, callable from several threads at once.

    More are ``apply``, ``plan`` and ``sql`` for a caller whose files are elsewhere; the last
    one counts, for the metrics.
    """

    def job_counts(self) -> Sequence[JobCount]:
        """How many jobs each step has had in each state."""
        ...

    def apply_files(
        self,
        files: Mapping[str, bytes],
        entry: str,
        *,
        message: str = "",
        parameters: Mapping[str, Any] | None = None,
        branch: str = DEFAULT_BRANCH,
    ) -> list[Applied]:
        """Register the pipelines that ``entry`` defines; ``files`` are its whole project."""
        ...

    def backtest_files(
        self,
        files: Mapping[str, bytes],
        entry: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Replayed]:
        """When the triggers that ``entry`` writes would have fired over history."""
        ...

    def receive(
        self, name: str, body: bytes, headers: Mapping[str, str], *, trusted: bool = False
    ) -> Received:
        """Keep what was posted to a webhook; ``trusted``: the sender has the server's login."""
        ...

    def import_wish(self, wish: ImportWish) -> ModelVersion:
        """A model of another tool as a candidate version; its files are in the repo already."""
        ...

    def sql_file(self, query: str, target: Path) -> None:
        """The answer of a query as a file, in the format of its suffix."""
        ...

    def plan_files(
        self,
        files: Mapping[str, bytes],
        entry: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        branch: str = DEFAULT_BRANCH,
        put: Mapping[str, Source] | None = None,
        delete: Sequence[str] = (),
        packages: Mapping[str, str] | None = None,
    ) -> list[Plan]:
        """What :meth:`apply_files` would do, also of what is only supposed."""
        ...


class Call(Struct, frozen=True, kw_only=True):
    """One request's way to the workspace."""

    verbs: ServedVerbs
    tail: Tail
    waiters: CapacityLimiter
    """How many may wait in threads at once."""
    scratch: Path | None
    """Where large bodies wait; None: the system's directory for temporary files."""
    accept: str

    def reply(self, value: object) -> Response:
        """``value`` (records, or lists of them) in the form that the caller asked for."""
        return encode(value, self.accept)


def _call(request: Request) -> Call:
    state = request.app.state
    return Call(
        verbs=cast(ServedVerbs, state.verbs),
        tail=state.tail,
        waiters=state.waiters,
        scratch=state.scratch,
        accept=request.headers.get("accept", ""),
    )


Asked = Annotated[Call, Depends(_call)]
