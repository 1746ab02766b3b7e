"""How pandas held the columns that a model learned from, and columns made to stand so again.

Text without a value is NaN, None or NA, by the version of pandas and by who made the frame; truths
with gaps are objects; days are moments or objects; categories have their order. A model that
learned from the one takes another for something that it has never seen. Knows no model. pandas is
imported on first use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

_MARKS = {"float": "nan", "NoneType": "none", "NAType": "na", "NaTType": "nat"}
_TEXT = {"str": "nan", "category": "nan", "string": "na"}
_PLAIN = (str, int, float, bool)


class Held(Struct, frozen=True, kw_only=True):
    """One column. ``dtype``: pandas' name of it; ``missing``: what an object without a value is:
    nan, none, na or nat, '' where none was missing; ``categories``: of a category, in their order.
    """

    dtype: str
    missing: str = ""
    categories: tuple[str | int | float | bool, ...] | None = None
    ordered: bool = False


def held_by(frame: Any) -> dict[str, Held]:
    """How a pandas frame holds each of its columns."""
    return {str(name): _held(frame[name]) for name in frame.columns}


def _held(values: Any) -> Held:
    kind = str(values.dtype)
    if kind == "category":
        categories = values.cat.categories.tolist()
        known = tuple(categories) if all(isinstance(one, _PLAIN) for one in categories) else None
        return Held(dtype=kind, categories=known, ordered=bool(values.cat.ordered))
    return Held(dtype=kind, missing=_mark(values) if kind == "object" else "")


def _mark(values: Any) -> str:
    gone = values[values.isna()]
    return _MARKS.get(type(gone.iloc[0]).__name__, "") if len(gone) else ""


def marked(held: Mapping[str, Held], missing: str) -> dict[str, Held]:
    """The same with texts and truths as objects, of which those without a value are ``missing``."""
    return {
        name: replace(one, dtype="object", missing=missing)
        if one.dtype in {"object", "str", "string"}
        else one
        for name, one in held.items()
    }


def missing_of(held: Mapping[str, Held]) -> str:
    """What stands for a missing text in all columns of text; '' where they differ."""
    marks = {_TEXT.get(one.dtype, one.missing) for one in held.values() if _may_be_text(one)}
    return marks.pop() if len(marks) == 1 else ""


def _may_be_text(one: Held) -> bool:
    return one.dtype in {"object", *_TEXT}


def is_so(values: Any, held: Held) -> bool:
    """Whether a pandas column is held so already."""
    found = _held(values)
    if found.dtype != held.dtype:
        return False
    if found.dtype == "object":
        gone = values[values.isna()]
        return all(_MARKS.get(type(one).__name__) == (held.missing or "nan") for one in gone)
    return replace(found, missing="") == replace(held, missing="")


def as_held(values: Any, held: Held) -> Any:
    """A Polars column as pandas held it.

    Numbers and truths that have gaps now, and had none then, have them as pandas has.
    """
    import pandas as pd  # noqa: PLC0415 - heavy, and few models want it

    kind = held.dtype
    if kind == "object":
        gone = {"none": None, "na": pd.NA, "nat": pd.NaT}.get(held.missing, float("nan"))
        listed = [gone if one is None else one for one in values.to_list()]
        return pd.Series(listed, dtype=object)
    if kind == "category":
        return _category(pd, values, held)
    if kind == "str":  # which pandas before 3 has by this name alone
        return pd.Series(values.to_list(), dtype=pd.StringDtype(na_value=float("nan")))
    if values.dtype.is_numeric() or str(values.dtype) == "Boolean":
        return _numbers(pd, values, kind)
    return pd.Series(values.to_list(), dtype=kind)


def _category(pd: Any, values: Any, held: Held) -> Any:
    """What was not among the categories stands behind them: a model says itself what it does."""
    listed = values.to_list()
    if held.categories is None:
        return pd.Series(pd.Categorical(listed, ordered=held.ordered))
    known = dict.fromkeys(held.categories)
    unseen = {one: None for one in listed if one is not None and one not in known}
    kind = pd.CategoricalDtype([*known, *unseen], ordered=held.ordered)
    return pd.Series(pd.Categorical(listed, dtype=kind))


def _numbers(pd: Any, values: Any, kind: str) -> Any:
    found = pd.Series(values.to_numpy() if not values.null_count() else values.to_list())
    gaps = values.null_count() and kind.startswith(("int", "uint", "bool"))
    return found if gaps or str(found.dtype) == kind else found.astype(kind)
