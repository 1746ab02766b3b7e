"""Which rows are kept for testing: chosen by a hash of their group, the same on every machine.

Knows frames only; where they come from and where the test set is kept is for others to say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal

import polars as pl
from msgspec import Struct

from clew.base import clock
from clew.base.errors import Invalid
from clew.models.definitions import HoldoutDefinition

_SPACE = 2**64


class Odd(Struct, frozen=True, kw_only=True):
    """Groups, in hex, whose hash says otherwise: kept for testing, or trained on, for good.

    A first cut needs one on each side.
    """

    tested: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()


def group_keys(frame: pl.DataFrame, by: str | None) -> list[bytes]:
    """A digest of 8 bytes of each row's group: the value of ``by``, or all values of the row.

    Raises:
        Invalid: ``holdout.by`` where ``by`` is neither a column nor an expression over columns.
    """
    if by is None:
        names = sorted(frame.columns)
        texts = [_texts(frame[name]) for name in names]
        return _digests("\x1f".join(row) for row in zip(*texts, strict=True))
    texts_of_groups = _texts(_groups(frame, by))
    distinct = list(set(texts_of_groups))
    known = dict(zip(distinct, _digests(distinct), strict=True))
    return [known[text] for text in texts_of_groups]


def chosen(keys: Iterable[bytes], fraction: float) -> set[bytes]:
    """The groups whose hash falls below ``fraction``; at least one, and never all.

    Raises:
        Invalid: ``holdout.groups`` where there are fewer than two groups.
    """
    ordered = sorted(set(keys))
    if len(ordered) < 2:
        raise Invalid(
            "holdout.groups",
            f"The rows fall into {len(ordered)} group{'s' * (len(ordered) != 1)}, which cannot be "
            "cut into a training and a test set.",
            hint="Choose another `by` in clew.holdout(...), or leave it out.",
        )
    below = len(_below(ordered, fraction))
    return set(ordered[: min(max(below, 1), len(ordered) - 1)])


def size_of(test_rows: int, train_rows: int, fraction: float) -> str:
    """How large a test set came out, and why where it is far from what was asked for."""
    whole = test_rows + train_rows
    said = f"{test_rows:,} of {whole:,} rows ({test_rows / whole:.0%})"
    if abs(test_rows / whole - fraction) > fraction / 2:
        said += f", where {fraction:.0%} were asked for: equal rows (or groups) stay together"
    return said


def cut(
    features: pl.DataFrame, definition: HoldoutDefinition, frozen: pl.DataFrame | None
) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Training rows, and the test rows to freeze (None: those frozen before still stand).

    Without ``frozen`` the test set is chosen by hash. With it, rows of its groups never train and
    every other group does, whatever its hash: what is frozen neither grows nor shrinks. If the
    features have other columns than it (the code that makes them changed), it is cut anew: the
    same groups where there is a ``by``, by the hash of the rows without.
    """
    keys = group_keys(features, definition.by)
    if frozen is not None and _same_columns(features, frozen):
        kept = set(group_keys(frozen, definition.by))
        return features.filter([key not in kept for key in keys]), None
    groups = _groups_again(keys, frozen, definition)
    held = [key in groups for key in keys]
    return features.filter([not one for one in held]), features.filter(held)


def grown(
    features: pl.DataFrame,
    definition: HoldoutDefinition,
    frozen: pl.DataFrame | None,
    odd: Odd,
) -> tuple[pl.DataFrame, pl.DataFrame | None, Odd]:
    """As :func:`cut`, for a test set that has what the hash gives to it of the features as they
    are; with the groups where the first cut decided otherwise (``odd``: what that gave back).

    Raises:
        Invalid: ``holdout.by``; ``holdout.groups`` also where nothing is left to learn from.
    """
    keys = group_keys(features, definition.by)
    below = _below(keys, definition.fraction)
    if frozen is None:
        groups = chosen(keys, definition.fraction)
        odd = Odd(tested=_hex(groups - below), trained=_hex(below - groups))
    else:
        groups = below - _unhex(odd.trained) | _unhex(odd.tested)
    held = [key in groups for key in keys]
    train, test = features.filter([not one for one in held]), features.filter(held)
    if train.is_empty():
        raise Invalid(
            "holdout.groups",
            f"All {features.height:,} rows are of groups that are kept for testing.",
            hint="Give rows of more groups to learn from.",
        )
    stands = frozen is not None and (test.is_empty() or _same_rows(test, frozen))
    return train, None if stands else test, odd


def _below(keys: Iterable[bytes], fraction: float) -> set[bytes]:
    """Keys whose first 8 bytes, as a place between 0 and 1, are below the fraction."""
    return {key for key in keys if int.from_bytes(key) < fraction * _SPACE}


def _hex(keys: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(sorted(key.hex() for key in keys))


def _unhex(texts: Iterable[str]) -> set[bytes]:
    return {bytes.fromhex(text) for text in texts}


def _groups_again(
    keys: list[bytes], frozen: pl.DataFrame | None, definition: HoldoutDefinition
) -> set[bytes]:
    if frozen is not None and definition.by is not None:
        before = set(group_keys(frozen, definition.by)) & set(keys)
        if before and before != set(keys):
            return before
    return chosen(keys, definition.fraction)


def _same_columns(left: pl.DataFrame, right: pl.DataFrame) -> bool:
    return _kinds(left) == _kinds(right)


def _same_rows(left: pl.DataFrame, right: pl.DataFrame) -> bool:
    """Whether both have the same rows, in whatever order."""
    if left.height != right.height or not _same_columns(left, right):
        return False
    return left.equals(right) or sorted(group_keys(left, None)) == sorted(group_keys(right, None))


def _kinds(frame: pl.DataFrame) -> dict[str, str]:
    """Columns by what they hold; a number may change its width without being another column."""
    return {
        name: "number" if kind.is_numeric() or kind.is_(pl.Null) else str(kind)
        for name, kind in frame.schema.items()
    }


def _groups(frame: pl.DataFrame, by: str) -> pl.Series:
    if by in frame.columns:
        return frame[by]
    try:
        found = frame.select(pl.sql_expr(by).alias("group"))["group"]
    except pl.exceptions.PolarsError as error:
        raise Invalid(
            "holdout.by",
            f"Rows cannot be grouped by {by!r}: {error}",
            hint=f"Name one of the columns {', '.join(frame.columns)}, or an SQL expression.",
        ) from None
    return found


def _digests(texts: Iterable[str]) -> list[bytes]:
    return [hashlib.sha256(text.encode()).digest()[:8] for text in texts]


def _texts(column: pl.Series) -> list[str]:
    if column.dtype.is_integer():
        return column.cast(pl.String).fill_null("null").to_list()
    if column.dtype.is_nested() or column.dtype.is_(pl.Object):
        return [_text(value) for value in column.to_list()]
    if column.dtype.is_float():
        column = column.fill_nan(None)
    known = {value: _text(value) for value in column.unique().to_list()}
    return [known[value] for value in column.to_list()]


def _text(value: object) -> str:  # noqa: PLR0911 - one line a kind is the clearest form
    """One spelling a value, whatever the width or library of its type.

    Whole floats read as integers (a column with gaps comes back as floats), no and not-a-number
    are one, times are microseconds (in UTC where they are aware), text is quoted JSON.
    """
    if value is None or value != value:  # only not-a-number differs from itself
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return f"at {clock.to_us(value)}"
    if isinstance(value, date | time):
        return f"at {value.isoformat()}"
    if isinstance(value, timedelta):
        return f"for {value // timedelta(microseconds=1)}"
    if isinstance(value, Decimal):
        return str(value.normalize())
    return json.dumps(value, default=repr, sort_keys=True)
