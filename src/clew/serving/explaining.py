"""Explanations of answers: asked for over HTTP, computed in a process beside, logged by id.

Knows the data plane and the contract of a model; how a model is explained is for the process that
loads it for that. Predictions are not held up: one process for each revision that is asked, one
question at a time in it, a few that wait, and an end when nobody asks any more.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import orjson

from clew.base.errors import ClewError, Ended, Invalid
from clew.base.extras import check_explains
from clew.base.ids import PredictionIds
from clew.serving import protocol
from clew.serving.apart import EXPLAIN, ModelApart
from clew.serving.dataplane import Answer, DataPlane, Route, refusal, status_of
from clew.serving.keeping import is_sampled, kept
from clew.serving.protocol import V1, V2, Outputs
from clew.serving.router import Arm
from clew.serving.runtime import Explains, Question, Runtime
from clew.serving.spool import KEPT, Record, Spool, frame
from clew.serving.tensors import Array, InputError

MOST_ROWS = 100
MOST_WAITING = 16
"""Rows of one question, and questions that wait in one process."""
LIMIT_S = 60.0
"""How long a question may take, where the caller does not say less."""
IDLE_S = 300.0
"""A process that explains ends when nobody has asked it for so long."""
ARM = "explain"
"""The role in the log of what was explained: no prediction was made of it."""
_TOLD = ("features", "method", "link", "output")
_log = logging.getLogger("clew.serving")
Reply = Callable[[Answer], None]


class Explaining:
    """Answers questions for explanations in one serving process. Belongs to its loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        plane: DataPlane,
        spool: Spool | None,
        *,
        command: list[str],
        store_address: str,
        check: Callable[[], None] = check_explains,
    ) -> None:
        """``check`` raises a ClewError where nothing can be explained here: then no process is
        started to say so.
        """
        self._loop, self._plane, self._spool, self._check = loop, plane, spool, check
        self._command, self._store = command, store_address
        self._threads = ThreadPoolExecutor(MOST_WAITING, thread_name_prefix="explain")
        self._ids = PredictionIds()
        self._waiting = 0

    def ask(
        self,
        kind: str,
        name: str,
        version: str,
        body: bytes,
        head: int,
        reply: Reply,
        *,
        key: str = "",
        timeout_s: float = math.inf,
    ) -> None:
        """Answer a request of v2 or v1 with what each input did; ``reply`` is called once."""
        route = self._plane.routes.get(name)
        if route is None:
            reply(refusal(404, f"There is no endpoint {name!r}."))
            return
        arm = route.choose(version, key)
        if arm is None or route.why:
            again = partial(self.ask, kind, name, version, body, head, reply, key=key,
                            timeout_s=timeout_s)  # fmt: skip
            self._plane.when_awake(route, version, again, reply)
            return
        try:
            asked = _Asked(kind, route, arm, body, head, timeout_s)
        except InputError as error:
            reply(refusal(400, error.message))
            return
        try:
            self._check()
        except ClewError as error:
            asked.id = self._ids.next()
            self._tell(asked, *_refused(error), reply)
            return
        if self._waiting >= MOST_WAITING:
            reply(refusal(429, f"{self._waiting} questions wait already; retry later."))
            return
        self._waiting += 1
        runtime = asked.runtime
        if runtime.explainer is None:
            runtime.explainer = Explainer(partial(self.started, runtime.tree))
        asked.explainer = runtime.explainer
        future = self._threads.submit(asked.explainer.explain, asked)
        expiry = self._loop.call_later(min(asked.timeout_s, LIMIT_S), self._expire, asked, reply)
        future.add_done_callback(
            lambda done: self._loop.call_soon_threadsafe(self._done, asked, done, expiry, reply)
        )

    def close(self) -> None:
        """End; nothing may be in flight."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    # in a thread --------------------------------------------------------------------------------

    def started(self, tree: str) -> ModelApart:
        """A process that explains answers of the model in a tree."""
        return ModelApart(self._command, self._store, EXPLAIN + tree)

    # on the loop --------------------------------------------------------------------------------

    def _expire(self, asked: _Asked, reply: Reply) -> None:
        """Nobody waits any more: the answer says so, and the process stops computing."""
        asked.expired = True
        if asked.explainer is not None:
            asked.explainer.give_up(asked)
        reply(refusal(504, "The explanation took longer than the request may wait."))

    def _done(
        self,
        asked: _Asked,
        done: Future[dict[str, Array]],
        expiry: asyncio.TimerHandle,
        reply: Reply,
    ) -> None:
        self._waiting -= 1
        expiry.cancel()
        if asked.explainer is not None:  # not held here: it ends with its revision
            self._loop.call_later(IDLE_S, self._rest, weakref.ref(asked.explainer))
        if asked.expired:
            return
        asked.id = self._ids.next()
        try:
            answer, said = self._answer(asked, done.result()), ""
        except Exception as error:  # noqa: BLE001 - the model is the user's code
            answer, said = _refused(error)
        self._tell(asked, answer, said, reply)

    def _tell(self, asked: _Asked, answer: Answer, said: str, reply: Reply) -> None:
        answer.identity, answer.prediction_id = asked.runtime.identity, asked.id
        self._note(asked, answer, said)
        reply(answer)

    def _rest(self, known: weakref.ref[Explains]) -> None:
        if (explainer := known()) is not None:
            self._threads.submit(explainer.rest)

    def _answer(self, asked: _Asked, found: dict[str, Array]) -> Answer:
        about = {name: found.pop(name).tolist() for name in _TOLD}
        asked.found = found
        features = [str(one) for one in about["features"]]
        said = {name: about[name][0] for name in _TOLD[1:]}
        if asked.kind == V1:
            rows = zip(*(found[n].tolist() for n in ("attributions", "base_values", "values")),
                       strict=True)  # fmt: skip
            told = [
                {
                    "attributions": dict(zip(features, each, strict=True)),
                    "base_value": base,
                    "value": value,
                }
                for each, base, value in rows
            ]
            return Answer(200, orjson.dumps({"explanations": told, **said}))
        outputs = Outputs(found)
        identity = asked.runtime.identity
        parameters = {f"clew-{name}": value for name, value in said.items()}
        parameters |= {
            "clew-features": json.dumps(features, ensure_ascii=False),
            "clew-classes": json.dumps(list(asked.runtime.model.signature.classes)),
            "clew-prediction-id": asked.id,
            "clew-global-id": identity.global_id,
            "clew-revision": identity.revision,
            "clew-model-version": identity.model_version,
        }
        head = orjson.dumps(
            {
                "model_name": identity.endpoint,
                "model_version": identity.version,
                "id": asked.wire.id or asked.id,
                "parameters": parameters,
            }
        )
        tensors = outputs.json(0, asked.rows, range(len(found)))
        return Answer(200, head[:-1] + b',"outputs":' + tensors + b"}")

    def _note(self, asked: _Asked, answer: Answer, said: str) -> None:
        """What the log keeps, by the settings of the endpoint; attributions tell of all inputs."""
        route, identity = asked.route, asked.runtime.identity
        share = route.log
        if self._spool is None or not share or not is_sampled(answer.prediction_id, share):
            return
        inputs = outputs = b""
        if answer.status == 200:
            columns = asked.runtime.contract.columns(asked.values)
            inputs = kept(columns, asked.rows, route.redact)
            hidden = {*route.redact, *(asked.found if route.redact else ())}
            outputs = kept(dict(asked.found), asked.rows, hidden)
        record = Record(
            answer.prediction_id, identity.endpoint, identity.revision, identity.model_version,
            identity.global_id, time.time_ns() // 1000,
            int((time.perf_counter() - asked.begun_s) * 1e6), answer.status, KEPT, -1, inputs, -1,
            outputs, said, ARM,
        )  # fmt: skip
        try:
            self._spool.append([frame(record)])
            answer.logged = True
        except OSError as error:
            _log.error("an explanation cannot be logged: %s", error)


class Explainer:
    """The process that explains the answers of one revision, started when it is first asked.

    Thread-safe; one question at a time. The process ends with this object.
    """

    def __init__(self, start: Callable[[], ModelApart]) -> None:
        self._start = start
        self._turn = threading.Lock()
        self._changing = threading.Lock()
        self._model: ModelApart | None = None
        self._asked: Question | None = None
        self._used_s = time.monotonic()

    def explain(self, asked: Question) -> dict[str, Array]:
        """What each input did. Raises Ended where nobody waits any more, and what asking does."""
        with self._turn:
            try:
                return dict(self._begun(asked).predict(asked.values))
            finally:
                with self._changing:
                    self._asked, self._used_s = None, time.monotonic()

    def give_up(self, asked: Question) -> None:
        """End what is computed, where it is for this question; others keep their turn."""
        with self._changing:
            if self._asked is asked:
                self._let_go()

    def rest(self) -> None:
        """End the process where it has not been used for long."""
        with self._changing:
            if self._asked is None and time.monotonic() - self._used_s >= IDLE_S:
                self._let_go()

    def _begun(self, asked: Question) -> ModelApart:
        while not asked.expired:
            if self._model is None:
                self._model = self._start()
            with self._changing:
                if self._model is not None and not asked.expired:
                    self._asked = asked
                    return self._model
        raise Ended("nobody waits for it any more")

    def _let_go(self) -> None:
        model, self._model = self._model, None
        if model is not None:
            model.kill()


class _Asked:
    """A question that was read and checked."""

    def __init__(
        self, kind: str, route: Route, arm: Arm[Runtime], body: bytes, head: int, timeout_s: float
    ) -> None:
        """Raises InputError where it is not what the model takes."""
        self.kind, self.route, self.runtime, self.id = kind, route, arm.value, ""
        self.begun_s, self.expired = time.perf_counter(), False
        self.found: dict[str, Array] = {}
        self.explainer: Explains | None = None
        if self.runtime.graph is not None:
            names = ", ".join(self.runtime.graph.graph.endpoints)
            raise InputError(f"{route.name!r} is a graph; ask for explanations of {names}.")
        self.wire = protocol.parse(V1 if kind == V1 else V2, body, None if head < 0 else head)
        self.values, self.rows = protocol.check(self.wire, self.runtime.contract)
        self.timeout_s = min(timeout_s, self.wire.timeout_s)
        if not self.runtime.tree:
            raise InputError("Nothing is explained where this model is served.")
        if self.rows > MOST_ROWS:
            raise InputError(f"{MOST_ROWS} rows are explained at once, not {self.rows}.")


def _refused(error: Exception) -> tuple[Answer, str]:
    if isinstance(error, ValueError):
        return refusal(400, f"The model refused the input: {error}"), str(error)
    if isinstance(error, Invalid) and error.code.startswith(("input.", "explain.")):
        return refusal(400, str(error)), error.message
    status = status_of(error) if isinstance(error, ClewError) else 500
    return refusal(status, str(error)), str(error)
