"""One revision in memory: its model, what that takes, and how it is asked.

Knows nothing of transports or routes. Not thread-safe: one batch at a time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import orjson
from msgspec import Struct, field

from clew.base.errors import Invalid
from clew.base.records import Signature
from clew.serving.contract import Values, contract_of
from clew.serving.protocol import Outputs, check, classes_of, parse
from clew.serving.stats import Account
from clew.serving.tensors import Array, InputError, of_numpy

_log = logging.getLogger("clew.serving")


class Model(Protocol):
    """A model as ``clew.models.load_model`` gives it."""

    @property
    def signature(self) -> Signature:
        """What it takes."""
        ...

    @property
    def platform(self) -> str:
        """What computes it, in the words of the protocol's metadata."""
        ...

    def predict(self, data: Any, /) -> Mapping[str, Array]:
        """Name → one output for each row, along the first axis.

        ``data`` is a matrix, or a mapping of column names to values.
        """
        ...


Load = Callable[[str, bool | None], tuple[Model, bytes | None]]
"""The tree of a model version's commit → the model, and its input example as a v2 request.

The second says whether it is to have a process of its own; None: where it is large.

May take seconds, may raise anything.
"""


class Question(Protocol):
    """What is asked of what explains answers, for as long as somebody waits."""

    values: Values
    """The checked inputs."""
    expired: bool
    """Nobody waits any more."""


class Explains(Protocol):
    """What explains the answers of one revision, in a process beside. Thread-safe."""

    def explain(self, asked: Question, /) -> dict[str, Array]:
        """What each input did. Raises Ended where nobody waits any more, and what asking does."""
        ...

    def give_up(self, asked: Question, /) -> None:
        """End what is computed, where it is for this question."""
        ...

    def rest(self) -> None:
        """End the process where it has not been used for long."""
        ...


class Identity(Struct, frozen=True, kw_only=True):
    """What every answer says about its maker. ``version`` is the model version's number."""

    endpoint: str
    revision: str
    number: int
    model_version: str
    version: str
    global_id: str


class Runtime(Struct, eq=False, dict=True):
    """A loaded revision.

    ``cost_s``: how long a batch takes, as a moving average. ``waiting``: requests not answered yet.
    ``watch``: outputs of batches with the rows of their requests, to be counted by kind of answer;
    None while nothing is compared.
    """

    identity: Identity
    model: Model
    account: Account = field(default_factory=Account)
    cost_s: float = 0.0
    waiting: int = 0
    outputs: list[dict[str, object]] = field(default_factory=list)
    watch: list[tuple[Mapping[str, Array], list[int]]] | None = None

    def __post_init__(self) -> None:
        self.apart = bool(getattr(self.model, "apart", False))
        """Whether it computes in a process of its own."""
        self.loaded_us = time.time_ns() // 1000
        self.graph: Any = self.model if hasattr(self.model, "graph") else None
        """The graph that it is, where it has no model."""
        self.why = self.misfit = ""
        """Why a graph cannot be asked now; and where that does not pass by itself."""
        self.tree = ""
        """What it was loaded from, where that is known."""
        self.explainer: Explains | None = None
        """What explains its answers, where somebody asked for that."""
        self.took_s = 0.0
        """How long its example took, where it was asked for it."""
        self.contract = contract_of(self.model.signature)
        name, version = (
            orjson.dumps(text) for text in (self.identity.endpoint, self.identity.version)
        )
        self.opening = b'{"model_name":%b,"model_version":%b,"id":' % (name, version)
        """Beginning of a v2 answer, up to its id."""
        self.about = (
            f',"parameters":{{"clew-global-id":"{self.identity.global_id}",'
            f'"clew-revision":"{self.identity.revision}",'
            f'"clew-model-version":"{self.identity.model_version}","clew-prediction-id":"'
        ).encode()
        """Parameters of an answer, up to the prediction id."""

    @property
    def asked_us(self) -> int:
        """When it last answered, or was loaded; in microseconds since the Unix epoch."""
        return max(self.loaded_us, self.account.last_us)

    def run(self, values: Values, rows: int) -> Outputs:
        """The outputs for checked inputs.

        Raises:
            Invalid: ``model.output`` where the model answers with something else than one value
                for each row. Whatever else the model raises.
        """
        arrays = {name: np.asarray(array) for name, array in self.model.predict(values).items()}
        for name, array in arrays.items():
            if array.ndim < 1 or len(array) != rows:
                raise Invalid(
                    "model.output",
                    f"The model gave output {name!r} of shape {list(array.shape)} for {rows} rows.",
                    hint="A model must give one value for each row.",
                )
        return Outputs(arrays, self.model.signature.classes)

    def warm(self, example: bytes | None) -> None:
        """Predict once, so that the first caller does not pay for it and outputs are known.

        ``example`` is the model's input example as a v2 request. Raises what the model raises for
        it. A row made up from the signature (where there is no example, or one that the signature
        does not allow) may fail: that is only logged. A graph is known by its nodes.
        """
        if self.graph is not None:
            return
        try:
            checked = None if example is None else check(parse("v2", example), self.contract)
        except InputError as error:
            _log.warning("the input example is not as the signature says: %s", error)
            checked = None
        if checked is None:
            self._warm_by_signature()
        else:
            self.learn(self.run(*checked))
            begun_s = time.perf_counter()
            self.run(*checked)  # the first time pays for what is made once
            self.took_s = time.perf_counter() - begun_s

    def _warm_by_signature(self) -> None:
        try:
            self.learn(self.run(*self.contract.check(self.contract.made_up())))
        except Exception as error:  # noqa: BLE001 - the model is the user's code, the row made up
            _log.warning("warm-up with a made-up row: %s", error)

    def learn(self, outputs: Outputs) -> None:
        """Note what it gives, for its metadata."""
        self.outputs = [self._described(name, array) for name, array in outputs.arrays.items()]

    def _described(self, name: str, array: Array) -> dict[str, object]:
        tail, datatype = array.shape[1:], of_numpy(array.dtype)
        about: dict[str, object] = {"name": name, "datatype": datatype, "shape": [-1, *tail]}
        named = classes_of(name, tail, self.model.signature.classes)
        return {**about, "parameters": {"clew-classes": named}} if named else about


def has_nan(outputs: Outputs) -> bool:
    """Whether any number among the outputs is NaN (quick: the sum of an array says it)."""
    return any(
        array.dtype.kind == "f" and bool(np.isnan(array.sum())) for array in outputs.arrays.values()
    )


def nan_rows(outputs: Outputs, start: int, stop: int) -> bool:
    """Whether rows start to stop hold a NaN."""
    return any(
        array.dtype.kind == "f" and bool(np.isnan(array[start:stop]).any())
        for array in outputs.arrays.values()
    )
