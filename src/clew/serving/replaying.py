"""A v2 request answered as an endpoint answers it, without sockets, routes or a log.

The gate asks a model so before it is deployed; knows contracts and nothing of gates.
"""

from __future__ import annotations

from collections.abc import Mapping

from clew.serving.protocol import V2, check, parse
from clew.serving.runtime import Identity, Model, Runtime
from clew.serving.tensors import Array

_NOBODY = Identity(
    endpoint="replay", revision="", number=0, model_version="", version="", global_id=""
)


def answer(model: Model, body: bytes) -> Mapping[str, Array]:
    """The outputs for a request, by name.

    Raises:
        Invalid: ``predict.input`` where the request is refused, ``model.output``; whatever the
            model raises.
    """
    runtime = Runtime(identity=_NOBODY, model=model)
    return runtime.run(*check(parse(V2, body), runtime.contract)).arrays
