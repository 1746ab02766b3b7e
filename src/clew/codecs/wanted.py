"""What one annotation asks for: the type behind Optional, Annotated and aliases, and the format.

Knows no codec.
"""

from __future__ import annotations

import types
import typing
from inspect import Parameter
from typing import Any

from msgspec import Struct

NOT_SAID = Parameter.empty


class Wanted(Struct, frozen=True):
    """A type, or None where nothing is said. ``suffix`` is the format that Annotated names."""

    type: Any
    optional: bool = False
    suffix: str = ""


def wanted_of(annotation: Any) -> Wanted:
    """What an annotation asks for, without Annotated, Optional, NewType and aliases."""
    if annotation is None or annotation in (Any, object, NOT_SAID, type(None)):
        return Wanted(None)
    alias = _alias(annotation)
    if alias is not None:
        return wanted_of(alias)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        inner = wanted_of(arguments[0])
        suffixes = [one for one in arguments[1:] if isinstance(one, str) and one.startswith(".")]
        return Wanted(inner.type, inner.optional, suffixes[0].lower() if suffixes else inner.suffix)
    if origin in (typing.Union, types.UnionType):
        some = [argument for argument in arguments if argument is not type(None)]
        if len(some) < len(arguments):
            rest = some[0] if len(some) == 1 else typing.Union[tuple(some)]  # noqa: UP007 - made
            inner = wanted_of(rest)
            return Wanted(inner.type, True, inner.suffix)
    return Wanted(annotation)


def _alias(annotation: Any) -> Any:
    """What a NewType, a type alias or a reference stands for; None for other types."""
    if isinstance(annotation, type):
        return None
    names = ("__supertype__", "__value__", "__forward_arg__")
    return next((one for name in names if (one := getattr(annotation, name, None))), None)
