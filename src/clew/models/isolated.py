"""A model in a process of the environment that it was trained in, asked as any other.

Knows no endpoint and no gate. Arrays go over a socket, outputs come back, nothing is pickled on the
way: the process may have another Python and another numpy. What kills it costs what it was
computing; the next question starts another.
"""

from __future__ import annotations

import os
import socket
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
import numpy as np

from clew.base import lines
from clew.base.children import Child
from clew.base.errors import ClewError, ModelError, Unavailable, from_wire
from clew.base.own_code import for_another_python
from clew.base.records import Signature
from clew.base.records.environments import OwnEnvironment
from clew.models.frames import Array, Data
from clew.models.layout import ENVIRONMENT, MODEL
from clew.models.loading import (
    LoadedModel,
    Outputs,
    Reads,
    Recipe,
    asked_how,
    read_file,
    unpickle,
)
from clew.places import Environments

MODULE = "clew.models.isolated_process"
PIECE_BYTES = 64 << 20
"""A pickle goes over in pieces of this size."""

_PLAIN = frozenset("biufcMmUS?")


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a process is told first: how the model is asked."""

    signature: Signature
    recipe: Recipe


class Packed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An array on its way: its dtype, shape and bytes, or its objects."""

    dtype: str = ""
    shape: tuple[int, ...] = ()
    content: memoryview | None = None
    objects: list[Any] | None = None


class Question(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model is asked: a matrix, or columns by name."""

    matrix: Packed | None = None
    columns: dict[str, Packed] | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a process says. ``kind``: ready, outputs, or of an error: clew, value or error."""

    kind: str
    outputs: dict[str, Packed] | None = None
    said: str = ""
    error: dict[str, str] | None = None


class Isolated(LoadedModel):
    """Answers as :class:`LoadedModel` does there. Thread-safe; one batch at a time.

    ``model`` is None: the object itself is in the other process.
    """

    apart = True

    def __init__(
        self,
        *,
        signature: Signature,
        recipe: Recipe,
        content: Callable[[], bytes],
        command: tuple[str, ...],
    ) -> None:
        """``content`` reads the pickle, ``command`` starts the process, but for what it is told.

        Raises:
            Unavailable: ``model.distribution``, ``model.apart`` where the process ends.
            Corrupt: ``model.pickle``.
        """
        self.signature = signature
        self.recipe = recipe
        self.platform = f"clew_{signature.frame}"
        self.model = None
        self._content, self._command = content, command
        self._lock = threading.Lock()
        self._child: Child[socket.socket] = Child(lambda mine: mine)
        weakref.finalize(self, self._child.end)
        self._start()

    @property
    def pid(self) -> int | None:
        """The process that has the model in memory now; None where it has ended."""
        return self._child.pid

    def predict(self, data: Data) -> Outputs:
        """As :meth:`LoadedModel.predict`.

        Raises:
            Ended: the process ended while it computed, or cannot be started again.
            ValueError, ClewError: the model raised one.
            ModelError: the model raised something else.
        """
        asked = msgspec.msgpack.encode(packed(data))
        with self._lock:
            answer = self._told(self._child.reached(self._start), asked)
        if answer.outputs is not None:
            return {name: unpacked(one) for name, one in answer.outputs.items()}
        raise _raised(answer)

    def input_of(self, data: Data) -> Any:
        """``data`` itself: it is made what the model takes where the model is."""
        return data

    def ask(self, given: Any) -> Any:  # noqa: ARG002 - as of any model
        """What the object itself says, which only its own process knows. Raises Unavailable."""
        raise Unavailable(
            "model.apart",
            "This model is in a process of its own environment; only its outputs come over.",
            hint="Use predict().",
        )

    def _told(self, connection: socket.socket, body: bytes) -> Answer:
        try:
            lines.send(connection, body)
            said = lines.receive(connection)
        except OSError:
            said = None
        if said is None:
            raise self._child.lost()
        return _decode(said)

    def _start(self) -> None:
        mine = self._child.start(
            self._command,
            output=2,
            environment=for_another_python(os.environ),
        )
        try:
            about = About(signature=self.signature, recipe=self.recipe)
            lines.send(mine, msgspec.msgpack.encode(about))
            content = memoryview(self._content())
            for at in range(0, len(content), PIECE_BYTES):
                lines.send(mine, content[at : at + PIECE_BYTES].tobytes())
            lines.send(mine, b"")
            said = lines.receive(mine)
        except OSError:
            said = None
        except BaseException:
            self._child.end()
            raise
        if said is None:
            why = self._child.end()
            raise Unavailable(
                "model.apart",
                f"The process of the model {why} while it loaded it.",
                hint="Look at what it wrote last in the log, and at the memory of the machine.",
            )
        answer = _decode(said)
        if answer.kind != "ready":
            self._child.end()
            raise _raised(answer)


def load_original(store: Reads, tree: str, *, as_trained: bool = False) -> LoadedModel:
    """The model as it was trained, from the tree of a model version's commit; in a process of its
    own environment where it has one.

    ``as_trained``: asked as its training function would ask it, and not as an endpoint does.

    Raises:
        NotFound: ``model.tree`` where the tree holds no packaged model.
        Invalid: ``environment.python``.
        Unavailable: ``model.distribution`` where a distribution that it needs is missing;
            ``environment.no_uv``, ``environment.offline``, ``environment.build`` where its
            environment is not there and cannot be built; ``model.apart`` where its process ends.
        Corrupt: ``model.pickle`` where it cannot be unpickled for another reason.
    """
    signature, recipe = asked_how(store, tree, as_trained=as_trained)
    own = environment_in(store, tree)
    if own is None:
        model, _ = unpickle(read_file(store, tree, MODEL))
        return LoadedModel(signature=signature, recipe=recipe, model=model)
    return Isolated(
        signature=signature,
        recipe=recipe,
        content=partial(read_file, store, tree, MODEL),
        command=Environments.at_hand().worker(own.lock, own.python, MODULE),
    )


def environment_in(store: Reads, tree: str) -> OwnEnvironment | None:
    """The environment of its own that a model in a tree has."""
    entry = store.get(tree, ENVIRONMENT)
    if entry is None:
        return None
    return msgspec.json.decode(store.read(entry.digest), type=OwnEnvironment)


def packed(data: Data) -> Question:
    """What a model is asked, as it goes over. Its arrays are not to change before it has gone."""
    if isinstance(data, np.ndarray):
        return Question(matrix=packed_array(data))
    names = list(data if isinstance(data, Mapping) else data.columns)
    return Question(columns={str(name): packed_array(_column(data[name])) for name in names})


def packed_array(values: Array) -> Packed:
    """An array as it goes over. Nothing is copied that is in one piece."""
    if values.dtype.kind not in _PLAIN:
        return Packed(objects=_plain(values.tolist()))
    flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return Packed(dtype=values.dtype.str, shape=values.shape, content=flat.data)


def unpacked(told: Packed) -> Array:
    """The array again; not to be written into."""
    if told.content is None:
        return np.array(told.objects)
    return np.frombuffer(told.content, dtype=told.dtype).reshape(told.shape)


def _column(values: Any) -> Array:
    """A column as an array; a missing value of what is no float is None."""
    if type(values).__module__.startswith("pandas"):
        import polars as pl  # noqa: PLC0415 - heavy, and only where a frame of pandas comes

        values = pl.from_pandas(values)
    missing = getattr(values, "null_count", None)
    if missing is not None and (not values.dtype.is_float()) and missing():
        return np.array([*values.to_list(), None], dtype=object)[:-1]
    if hasattr(values, "to_numpy"):
        found: Array = values.to_numpy()
        return found
    if isinstance(values, np.ndarray):
        return values
    return np.array([*values, None], dtype=object)[:-1]  # a list of lists stays a list


def _plain(values: Any) -> Any:
    if isinstance(values, list):
        return [_plain(one) for one in values]
    return values.item() if isinstance(values, np.generic) else values


def _raised(answer: Answer) -> Exception:
    if answer.error is not None:
        return from_wire(answer.error)
    return ValueError(answer.said) if answer.kind == "value" else ModelError(answer.said)


def failure(error: Exception) -> Answer:
    """What a process says of an error: the opposite of what a caller raises."""
    if isinstance(error, ClewError):
        return Answer(kind="clew", error=error.to_wire())
    if isinstance(error, ValueError):
        return Answer(kind="value", said=_text_of(error))
    return Answer(kind="error", said=f"{type(error).__name__}: {_text_of(error)}")


def _text_of(error: Exception) -> str:
    """What it says; what is no text (half of a pair) is replaced."""
    return str(error).encode(errors="replace").decode()


_decode = msgspec.msgpack.Decoder(Answer).decode
