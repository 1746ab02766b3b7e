"""The client of the demo: asks an endpoint by the Open Inference Protocol, as anybody would.

Knows HTTP and the protocol alone; nothing of Clew but the header with the prediction's id.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx2
from msgspec import Struct, field

from clew.base.errors import NotReady

if TYPE_CHECKING:
    import polars as pl

TIMEOUT_S = 30.0


class Answer(Struct, frozen=True, kw_only=True):
    """One answer: ids and the chance of each row."""

    prediction_id: str
    model_version: str
    chances: list[float]


class Caller:
    """Asks one endpoint. Not for several threads at once."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = httpx2.Client(timeout=TIMEOUT_S)
        self._await_ready()
        metadata = self._http.get(url).raise_for_status().json()
        self._inputs = [(one["name"], one["datatype"]) for one in metadata["inputs"]]

    def _await_ready(self) -> None:
        end = time.monotonic() + TIMEOUT_S
        while self._http.get(f"{self._url}/ready").status_code != httpx2.codes.OK:
            if time.monotonic() > end:
                raise NotReady("demo.endpoint", f"{self._url} is not ready.", hint="clew endpoints")
            time.sleep(0.02)

    def ask(self, rows: pl.DataFrame) -> Answer:
        """Predict for all rows in one request; raises on any status but 200."""
        body = {"inputs": [self._tensor(rows, name, kind) for name, kind in self._inputs]}
        reply = self._http.post(f"{self._url}/infer", json=body).raise_for_status()
        outputs: dict[str, list[Any]] = {o["name"]: o["data"] for o in reply.json()["outputs"]}
        return Answer(
            prediction_id=reply.headers["clew-prediction-id"],
            model_version=reply.headers["clew-model-version"],
            chances=[float(value) for value in outputs["probability"]],
        )

    def close(self) -> None:
        """Let the connection go."""
        self._http.close()

    @staticmethod
    def _tensor(rows: pl.DataFrame, name: str, kind: str) -> dict[str, Any]:
        data = rows[name].to_list()
        return {"name": name, "shape": [len(data)], "datatype": kind, "data": data}


class Load(Struct, kw_only=True):
    """A client that keeps asking for single rows on a thread of its own, and counts."""

    url: str
    rows: pl.DataFrame
    answered: int = 0
    failed: int = 0
    by_version: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Load:
        self._thread = threading.Thread(target=self._run, name="demo-load", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        caller = Caller(self.url)
        turn = 0
        while not self._stop.wait(0.004):
            row = self.rows[turn % self.rows.height]
            turn += 1
            try:
                answer = caller.ask(row)
            except httpx2.HTTPError as error:
                self.failed += 1
                self.errors.append(repr(error))
            else:
                self.answered += 1
                self.by_version[answer.model_version] += 1
        caller.close()
