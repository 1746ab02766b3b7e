"""Parameters of a pipeline: a name, a type, a default, and the value that a run was given.

Knows values only; which step uses which is recorded by the pipeline.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import msgspec
from msgspec import Struct

from clew.base.errors import Invalid

MISSING: Any = object()


class Parameter(Struct, frozen=True, kw_only=True, eq=False):
    """What :meth:`Pipeline.parameter` gives: stands for a value where a step is defined."""

    name: str
    type: Any
    default: Any = MISSING
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    help: str = ""

    def checked(self, given: Any) -> Any:
        """A value of the parameter's type; a text is read as JSON where the type is no text.

        Raises:
            Invalid: ``parameter.value``.
        """
        try:
            value = msgspec.convert(self._plain(given), self.type, strict=False)
        except (msgspec.ValidationError, TypeError, ValueError) as error:
            raise self._wrong(given, str(error)) from None
        if self.choices and value not in self.choices:
            raise self._wrong(given, f"it is none of {', '.join(map(str, self.choices))}")
        if self.minimum is not None and value < self.minimum:
            raise self._wrong(given, f"it is below {self.minimum}")
        if self.maximum is not None and value > self.maximum:
            raise self._wrong(given, f"it is above {self.maximum}")
        return msgspec.to_builtins(value)

    def _plain(self, given: Any) -> Any:
        if not isinstance(given, str) or self.type is str:
            return given
        try:
            return json.loads(given)
        except ValueError:
            return given

    def _wrong(self, given: Any, why: str) -> Invalid:
        kind = getattr(self.type, "__name__", str(self.type))
        return Invalid(
            "parameter.value",
            f"{self.name}={given!r} is no value of the parameter {self.name} ({kind}): {why}.",
            hint=self.help or f"Give it another: --set {self.name}=…",
        )


def new_parameter(
    name: str,
    default: Any,
    kind: Any,
    *,
    choices: Sequence[Any],
    minimum: float | None,
    maximum: float | None,
    help: str,
) -> Parameter:
    """A parameter whose default is checked. Its type is that of the default, if none is said."""
    if kind is None:
        first = default if default is not MISSING else next(iter(choices), MISSING)
        kind = Any if first is MISSING or first is None else type(first)
    made = Parameter(
        name=name,
        type=kind,
        default=default,
        choices=tuple(choices),
        minimum=minimum,
        maximum=maximum,
        help=help,
    )
    if default is not MISSING:
        made.checked(default)
    return made


class Values(Struct, frozen=True, kw_only=True):
    """The values of a pipeline's parameters: those given, else the defaults."""

    pipeline: str
    parameters: Mapping[str, Parameter]
    given: Mapping[str, Any]

    def of(self, parameter: Parameter) -> Any:
        """The value of a parameter.

        Raises:
            Invalid: ``parameter.missing``, ``parameter.value``.
        """
        if parameter.name in self.given:
            return parameter.checked(self.given[parameter.name])
        if parameter.default is MISSING:
            raise Invalid(
                "parameter.missing",
                f"The parameter {parameter.name} of {self.pipeline} has no default and no value.",
                hint=f"Give it one: clew apply FILE --set {parameter.name}=…",
            )
        return parameter.checked(parameter.default)

    def all(self) -> dict[str, Any]:
        """Every value by name."""
        return {name: self.of(one) for name, one in self.parameters.items()}

    def resolved(self, value: Any) -> Any:
        """A value, or what the parameter has that stands in its place."""
        return self.of(value) if isinstance(value, Parameter) else value


def check_given(given: Mapping[str, Any], known: Mapping[str, Sequence[str]]) -> None:
    """That every name which is given a value is a parameter of one of the pipelines.

    Raises:
        Invalid: ``parameter.unknown``, with names that are near.
    """
    names = sorted({name for found in known.values() for name in found})
    for name in given:
        if name not in names:
            near = get_close_matches(name, names, 3, 0.5)
            listed = ", ".join(names) or "none"
            raise Invalid(
                "parameter.unknown",
                f"There is no parameter {name!r} in {', '.join(known)}.",
                hint=f"Did you mean {' or '.join(near)}?" if near else f"There are: {listed}.",
            )
