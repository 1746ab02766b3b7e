"""A model asked in this process as an endpoint asks it: the same contract, outputs and log.

Knows no socket and no loop: the data plane's turns are taken by who asks.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

import orjson

from clew.base.asking import classes_of, outputs_of, request_of
from clew.base.errors import Invalid, Unavailable
from clew.base.records import PredictResult
from clew.base.rows import Plain, plain_rows
from clew.serving.contract import ColumnsContract
from clew.serving.dataplane import Answer, Call, DataPlane, Route
from clew.serving.protocol import V2
from clew.serving.runtime import Identity, Model, Runtime
from clew.serving.spool import Spool

MATRIX = "rows"


class InProcess:
    """One model in memory. Thread-safe; several threads ask one after the other.

    ``name``: of the endpoint or the model. With a ``spool_dir`` each answer is in the prediction
    log before it is given, as a serving process does it: ``log`` is the share that is kept,
    ``redact`` the columns that are not.
    """

    def __init__(
        self,
        name: str,
        model: Model,
        *,
        revision: str,
        number: int,
        model_version: str,
        version: str,
        global_id: str,
        spool_dir: Path | None = None,
        log: float = 1.0,
        redact: tuple[str, ...] = (),
    ) -> None:
        identity = Identity(
            endpoint=name,
            revision=revision,
            number=number,
            model_version=model_version,
            version=version,
            global_id=global_id,
        )
        self._name = name
        self._runtime = Runtime(identity, model)
        self._runtime.warm(None)
        self._turns = _Turns()
        self._spool = None if spool_dir is None else Spool(spool_dir)
        self._plane = DataPlane(cast(asyncio.AbstractEventLoop, self._turns), self._spool)
        route = Route(name, [(self._runtime, 100.0)], log=log, redact=frozenset(redact))
        self._plane.routes = {name: route}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        version = self._runtime.identity.version
        return f"<model of {self._name}, version {version}, {self.platform}>"

    @property
    def model_version(self) -> str:
        """The id of the model version that answers."""
        return self._runtime.identity.model_version

    @property
    def platform(self) -> str:
        """What computes it: ``onnxruntime_onnx``, or the original."""
        return self._runtime.model.platform

    @property
    def inputs(self) -> list[dict[str, object]]:
        """What it takes: name, datatype and shape of each input."""
        return self._runtime.contract.describe()

    def predict(self, rows: Any) -> PredictResult:
        """Predict for rows: mappings of column to value, lists of numbers, an array, or a frame.

        Raises:
            Invalid: ``predict.rows``; ``predict.refused`` with what the model says of them.
            Unavailable: ``predict.failed`` where the model cannot answer.
        """
        plain = plain_rows(rows)
        answer = self.answer(self._as_matrix(plain) or request_of(self.inputs, plain))
        body = orjson.loads(answer.body)
        if answer.status != 200:
            raise _refused(answer.status, str(body["error"]))
        identity = self._runtime.identity
        return PredictResult(
            prediction_id=answer.prediction_id,
            global_id=identity.global_id,
            endpoint=self._name,
            revision=identity.revision,
            model_version=identity.model_version,
            outputs=outputs_of(body["outputs"]),
            classes=classes_of(body["outputs"]),
        )

    def _as_matrix(self, rows: Plain) -> bytes | None:
        """The request as one matrix, where every value is a float: much shorter than by columns."""
        contract = self._runtime.contract
        if not isinstance(contract, ColumnsContract) or contract.matrix is None:
            return None
        names = [rule.name for rule in contract.rules]
        if len(names) < 2 or MATRIX in contract.names:
            return None
        flat: list[object] = []
        for row in rows:
            if not isinstance(row, dict) or row.keys() != contract.names:
                return None
            flat += [row[name] for name in names]
        if set(map(type, flat)) != {float}:
            return None
        shape = [len(rows), len(names)]
        tensor = {"name": MATRIX, "datatype": "FP64", "shape": shape, "data": flat}
        return orjson.dumps({"inputs": [tensor]})

    def answer(self, body: bytes) -> Answer:
        """The answer to a request of the Open Inference Protocol, as it would go over HTTP."""
        with self._lock:
            answers: list[Answer] = []
            call = Call(
                kind=V2, endpoint=self._name, version="", body=body, head=-1, reply=answers.append
            )
            self._plane.submit(call)
            while not answers:
                self._turns.take()
            return answers[0]

    def close(self) -> None:
        """End it; what was logged is on the disk after this. Idempotent."""
        with self._lock:
            self._plane.close()
            if self._spool is not None:
                self._spool.close()
                self._spool = None

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Turns:
    """The part of a loop that a data plane needs; what it is told to do is done by who waits."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Callable[..., None], tuple[Any, ...]]] = SimpleQueue()

    def call_soon(self, act: Callable[..., None], *given: Any) -> None:
        """Do it at the next turn."""
        self._queue.put((act, given))

    call_soon_threadsafe = call_soon

    def take(self) -> None:
        """Take one turn; waits for it."""
        act, given = self._queue.get()
        act(*given)


def _refused(status: int, said: str) -> Invalid | Unavailable:
    if status < 500:
        return Invalid("predict.refused", said, hint="Give what `inputs` says.")
    return Unavailable("predict.failed", said, hint="Ask the original: train(..., convert=False).")
