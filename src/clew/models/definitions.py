"""What a user's file says about judging a model: the test set, the target, the gate.

It records; splitting, packaging and judging happen elsewhere in this room.
"""

from __future__ import annotations

from msgspec import Struct

from clew.base.errors import Invalid
from clew.base.records import CodeRef

TASKS = ("auto", "binary", "multiclass", "regression")


class HoldoutDefinition(Struct, frozen=True, kw_only=True):
    """A share of the groups of rows that is kept out of all training, for good.

    ``fraction`` is of the groups; ``by`` is a column or a Polars SQL expression whose value makes
    the group, or None: every distinct row is a group of its own. ``grow``: the same share of the
    groups that come later is kept out as well, and tested on.
    """

    fraction: float
    by: str | None = None
    grow: bool = False


class EvaluationDefinition(Struct, frozen=True, kw_only=True):
    """What a model predicts and on which rows it is judged.

    ``test``: a holdout, or ``repo@branch`` of data that is the test set as it stands.
    ``task``: auto (seen from the model and the target), binary, multiclass or regression.
    ``convert``: to a quicker form, which serves where it answers the same.
    """

    target: str
    test: HoldoutDefinition | str
    task: str = "auto"
    convert: bool = True


class GateDefinition(Struct, frozen=True, kw_only=True):
    """The rules that a model must keep. ``function`` None: every model is blessed.

    ``slices``: columns and SQL expressions that the report has groups of; ``query``: the column
    whose values are the queries that rows are ranked in.
    """

    target: str
    function: CodeRef | None = None
    task: str = "auto"
    slices: tuple[str, ...] = ()
    query: str = ""


def holdout(
    fraction: float = 0.2, by: str | None = None, *, grow: bool = False
) -> HoldoutDefinition:
    """Keep a share of the rows out of all training, chosen once by a hash and never moved again.

    Args:
        fraction: Share of the groups, between 0 and 1.
        by: Column (or SQL expression over columns) whose equal values stay together, such as a
            day, a person or a machine. Without it rows are chosen one by one.
        grow: The test set goes with the data: of new groups the same share joins it, by the same
            hash, and what changed in old ones changes there. A training that finds it changed
            freezes it as a new commit, on which its model and the champion are both judged.
            Without it the test set stays as it was cut first, and all that comes later is trained
            on: right for a yardstick, blind to a world that has changed. It needs ``by``.

    Raises:
        Invalid: ``holdout.fraction``; ``holdout.by`` where what grows has none.
    """
    if not 0 < fraction < 1:
        raise Invalid(
            "holdout.fraction",
            f"A holdout of {fraction} leaves nothing to test or nothing to learn from.",
            hint="Give a fraction between 0 and 1, such as clew.holdout(0.2).",
        )
    if grow and by is None:
        raise Invalid(
            "holdout.by",
            "A test set that grows without `by` knows rows by all their values: one that is "
            "corrected could move from training to test.",
            hint="Name a column that tells rows apart and stays: clew.holdout(0.2, by='id', "
            "grow=True).",
        )
    return HoldoutDefinition(fraction=fraction, by=by, grow=grow)


def check_task(task: str) -> str:
    """The task itself, if there is such a one.

    Raises:
        Invalid: ``model.task``.
    """
    if task not in TASKS:
        raise Invalid(
            "model.task",
            f"{task!r} is not a task.",
            hint=f"Use one of {', '.join(TASKS)}.",
        )
    return task
