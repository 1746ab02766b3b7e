"""One model in the environment that it was trained in: told of it, then asked, until nobody asks.

Knows the descriptor to answer on (its only argument) and :mod:`clew.models.isolated`, to which it
speaks. Of Clew it needs no more than any worker there.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from clew.base import lines
from clew.base.children import until_orphaned
from clew.models.isolated import About, Answer, Packed, Question, failure, packed_array, unpacked
from clew.models.loading import LoadedModel, unpickle

_decode = msgspec.msgpack.Decoder(Question).decode
USED_EVERY_S = 3600.0
"""So often it says that its environment is in use, which is kept as long as it is."""


def main(descriptor: int) -> None:
    """Be one model; returns when the other end hangs up."""
    threading.Thread(target=until_orphaned, daemon=True).start()
    threading.Thread(target=_in_use, daemon=True).start()
    os.set_inheritable(descriptor, False)
    with socket.socket(fileno=descriptor) as connection:
        try:
            model = _read(connection)
        except Exception as error:  # noqa: BLE001 - a pickle runs anything; told to who asked
            lines.send(connection, msgspec.msgpack.encode(failure(error)))
            return
        lines.send(connection, msgspec.msgpack.encode(Answer(kind="ready")))
        with suppress(OSError):
            while (asked := lines.receive(connection)) is not None:
                lines.send(connection, _answer(model, asked))


def _read(connection: socket.socket) -> LoadedModel:
    told = lines.receive(connection) or b""
    about = msgspec.msgpack.decode(told, type=About)
    pieces = []
    while piece := lines.receive(connection):
        pieces.append(piece)
    model, _ = unpickle(b"".join(pieces))
    return LoadedModel(signature=about.signature, recipe=about.recipe, model=model)


def _answer(model: LoadedModel, asked: bytes) -> bytes:
    try:
        told = _decode(asked)
        data = _columns(told.columns or {}) if told.matrix is None else unpacked(told.matrix)
        outputs = {name: packed_array(one) for name, one in model.predict(data).items()}
        return msgspec.msgpack.encode(Answer(kind="outputs", outputs=outputs))
    except Exception as error:  # noqa: BLE001 - the model is the user's code
        return msgspec.msgpack.encode(failure(error))


def _columns(told: Mapping[str, Packed]) -> dict[str, Any]:
    return {
        name: unpacked(one) if one.objects is None else one.objects for name, one in told.items()
    }


def _in_use() -> None:
    while True:
        with suppress(OSError):
            os.utime(sys.prefix)
        time.sleep(USED_EVERY_S)


if __name__ == "__main__":
    main(int(sys.argv[1]))
