"""gRPC's own health protocol (``grpc.health.v1``): asked once, as a list, or watched.

Knows no transport and no models. Its services are the inference service (also ''), and each
endpoint by its name. https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from clew.serving import describing, grpc_calls
from clew.serving.dataplane import Route
from clew.serving.grpc_calls import Method, Refused, Rpc
from clew.serving.messages import MESSAGES, DecodeError

HEALTH = "grpc.health.v1.Health"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


class Health:
    """Answers by the routes that there are now. All on one loop.

    ``service``: what is ready when every endpoint is. A probe has no token: everybody may ask.
    """

    def __init__(self, routes: Callable[[], Mapping[str, Route]], service: str) -> None:
        self._routes, self._service = routes, service
        self._watchers: set[_Watcher] = set()
        self._leaving = False

    def methods(self) -> dict[str, Method]:
        """By their paths."""
        acts = {"Check": self._check, "List": self._list, "Watch": self._watch}
        return {f"/{HEALTH}/{name}": Method(_all, act) for name, act in acts.items()}

    def status(self, service: str) -> int:
        """Of a service; ``SERVICE_UNKNOWN`` where there is none of that name."""
        routes = self._routes()
        if service in {"", self._service}:
            ready = describing.all_ready(routes.values())
        elif service in routes:
            ready = routes[service].ready
        else:
            return SERVICE_UNKNOWN
        return SERVING if ready and not self._leaving else NOT_SERVING

    def look(self) -> None:
        """Tell those who watch what has changed."""
        for watcher in list(self._watchers):
            watcher.look()

    def close(self) -> None:
        """The end: nothing is ready any more, and who watches is told to ask elsewhere."""
        self._leaving = True
        self.look()
        for watcher in list(self._watchers):
            watcher.end()

    def _check(self, rpc: Rpc, raw: bytes) -> None:
        service = _service_of(raw)
        status = self.status(service)
        if status == SERVICE_UNKNOWN:
            raise Refused(grpc_calls.NOT_FOUND, f"There is no endpoint {service!r}.")
        rpc.reply(_told(status))

    def _list(self, rpc: Rpc, raw: bytes) -> None:  # noqa: ARG002 - the request is empty
        found = MESSAGES["HealthListResponse"]()
        for service in ("", self._service, *self._routes()):
            found.statuses[service].status = self.status(service)
        rpc.reply(found.SerializeToString())

    def _watch(self, rpc: Rpc, raw: bytes) -> None:
        watcher = _Watcher(self, rpc, _service_of(raw))
        self._watchers.add(watcher)
        rpc.stream.gone = lambda: self._watchers.discard(watcher)
        rpc.stream.drained = watcher.look
        watcher.look()
        if self._leaving:
            watcher.end()

    def forget(self, watcher: _Watcher) -> None:
        """One that has ended."""
        self._watchers.discard(watcher)


class _Watcher:
    """Who is told the status of a service now, and whenever it changes."""

    def __init__(self, health: Health, rpc: Rpc, service: str) -> None:
        self._health, self._rpc, self._service = health, rpc, service
        self._told = -1

    def look(self) -> None:
        """Tell the status, where it is new and what was told before has been taken."""
        status = self._health.status(self._service)
        if status != self._told and not self._rpc.stream.waiting_bytes:
            self._told = status
            self._rpc.send(_told(status))

    def end(self) -> None:
        """No more is told here."""
        self._health.forget(self)
        self._rpc.refuse(grpc_calls.UNAVAILABLE, "This process ends; ask again.")


def _told(status: int) -> bytes:
    found: bytes = MESSAGES["HealthCheckResponse"](status=status).SerializeToString()
    return found


def _service_of(raw: bytes) -> str:
    try:
        return str(MESSAGES["HealthCheckRequest"].FromString(raw).service)
    except DecodeError as error:
        said = f"This is not a HealthCheckRequest: {error}."
        raise Refused(grpc_calls.INVALID_ARGUMENT, said) from None


def _all(_: Rpc) -> None:
    """Everybody may ask."""
