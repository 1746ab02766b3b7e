"""Models of pydantic.

The one file that knows pydantic; it is imported only by those who have such a model.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

from clew.codecs.formats import need


def is_model(kind: Any) -> bool:
    """Whether a class is a pydantic model or dataclass; found without importing pydantic."""
    return isinstance(kind, type) and (
        any(
            one.__name__ == "BaseModel" and one.__module__.startswith("pydantic.")
            for one in kind.__mro__
        )
        or "__is_pydantic_dataclass__" in vars(kind)
    )


def has_model(annotation: Any) -> bool:
    """Whether a type is or holds such a model."""
    return is_model(annotation) or any(has_model(one) for one in typing.get_args(annotation))


def converter(wanted: Any) -> Callable[[Any, bool], Any]:
    """What makes values of a type of plain ones, by pydantic's own rules."""
    adapter = need("pydantic", "").TypeAdapter(wanted)
    return lambda value, _: adapter.validate_python(value)


def plain(value: Any) -> object:
    """What JSON says of a model."""
    return need("pydantic", "").TypeAdapter(type(value)).dump_python(value, mode="json")


def said(error: Exception) -> str:
    """What a validation error says, in one line; '' where it is not pydantic's."""
    errors = getattr(error, "errors", None)
    if errors is None or type(error).__module__.partition(".")[0] not in {
        "pydantic",
        "pydantic_core",
    }:
        return ""
    found = errors(include_url=False, include_context=False)
    some = [f"{'.'.join(map(str, one['loc'])) or 'value'}: {one['msg']}" for one in found[:3]]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f"{'; '.join(some)}{more}"
