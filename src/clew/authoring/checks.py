"""What may stand in a definition, checked where it is written.

Knows values only; every refusal is Invalid ``pipeline.definition``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from clew.authoring.parameters import Parameter
from clew.base.address import check_ref_name
from clew.base.errors import Invalid
from clew.codecs import Spark


def check_limits(*, retries: int, timeout_s: float | None, memory_bytes: int | None) -> None:
    """Limits are above 0."""
    limits = {"timeout_s": timeout_s, "memory_bytes": memory_bytes}
    wrong = [
        f"{name}={value}" for name, value in limits.items() if value is not None and value <= 0
    ]
    if retries < 0:
        wrong.append(f"retries={retries}")
    if wrong:
        raise invalid(f"{', '.join(wrong)} is no limit", "Give a number above 0, or leave it out.")


def check_parameters(parameters: Mapping[str, object]) -> None:
    """Parameters are plain data."""
    for name, value in parameters.items():
        if isinstance(value, Parameter):
            continue
        try:
            msgspec.json.encode(value)
        except (TypeError, ValueError):
            raise invalid(
                f"The parameter {name!r} is a {type(value).__name__}, which is not plain",
                "Give numbers, text, booleans, None, or lists and dicts of them.",
            ) from None


def trial_parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """Parameters that get the trial: those called ``trial``, and those annotated ``Trial``."""
    return tuple(
        name
        for name, one in inspect.signature(function).parameters.items()
        if name == "trial" or _class_name(one.annotation) == "Trial"
    )


def _class_name(annotation: object) -> str:
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return str(name).rpartition(".")[2]


def check_signature(
    function: Callable[..., Any], values: int, named: tuple[str, ...], apart: tuple[str, ...] = ()
) -> None:
    """Every parameter of the function gets one value: inputs by position, ``named`` by name.

    One annotated ``SparkSession`` gets the session; those ``apart`` get what is theirs elsewhere.
    """
    signature = {
        name: one
        for name, one in inspect.signature(function).parameters.items()
        if name not in apart and not Spark.is_asked_by(one.annotation)
    }
    loose = [
        str(one) for one in signature.values() if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    if loose:
        raise invalid(
            f"{function.__name__} takes {loose[0]}", "Name each of its parameters: one per input."
        )
    defaults = [one for one in list(signature.values())[values:] if one.name not in named]
    optional = sum(one.default is not one.empty for one in defaults)
    if not 0 <= len(signature) - values - len(named) <= optional:
        without = [one.name for one in defaults if one.default is one.empty]
        raise invalid(
            f"{function.__name__} has {len(signature)} parameters and gets {values + len(named)}"
            + (f": nothing gives {without[0]!r}" if without else ""),
            "Give one input for each parameter, in the same order. Behind these there may be"
            " parameters of the pipeline, by their names, and in a training step the trial:"
            " `trial`, or any name annotated clew.Trial.",
        )
    unknown = [name for name in named if name not in list(signature)[values:]]
    if unknown:
        raise invalid(
            f"{function.__name__} has no parameter {unknown[0]!r} after its inputs",
            "Name what parameters= gives as the function does, behind the inputs.",
        )


def check_feasible(function: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """The function itself, if it can be asked whether a trial is feasible.

    Raises:
        Invalid: ``pipeline.definition``.
    """
    if function is None:
        return None
    hint = "Write def fits(params, metrics): return metrics['latency_ms'] <= 5"
    if not callable(function):
        raise invalid(f"feasible={function!r} is no function", hint)
    try:
        inspect.signature(function).bind({}, {})
    except TypeError as error:
        raise invalid(f"feasible={function.__name__} cannot be asked: {error}", hint) from None
    return function


def check_name(name: str, of_what: str) -> None:
    """A name can stand in addresses and paths."""
    if not isinstance(name, str) or name == "<lambda>":
        raise invalid(f"{name!r} cannot name {of_what}", "Write `def name(...)`, or give name=.")
    try:
        check_ref_name(name)
    except Invalid as error:
        raise invalid(f"{name!r} cannot name {of_what}", error.hint) from None


def invalid(what: str, hint: str) -> Invalid:
    """The one error of wrong definitions."""
    return Invalid("pipeline.definition", f"{what}.", hint=hint)
