"""Where commits stand in their chain: any ancestor in O(log n) steps.

Knows rows only. Each commit keeps its depth (the number of commits before it along the first
parents) and a jump to an ancestor, chosen as in skew-binary random-access lists (E. W. Myers, "An
applicative random-access stack", Information Processing Letters 17, 1983): a walk to any depth
takes O(log n) steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import bindparam, literal, select, update

from clew.db import Tx
from clew.repos import tables

_commits = tables.commits
_parent, _jump, _jump2 = _commits.alias("parent"), _commits.alias("jump"), _commits.alias("jump2")

# A parent with its jump, and the jump of that.
_ABOVE = (
    select(
        _parent.c.id,
        _parent.c.parent,
        _parent.c.depth,
        _parent.c.jump,
        _jump.c.depth.label("jump_depth"),
        _jump.c.jump.label("jump_jump"),
        _jump2.c.depth.label("jump_jump_depth"),
    )
    .select_from(
        _parent.outerjoin(_jump, _jump.c.id == _parent.c.jump).outerjoin(
            _jump2, _jump2.c.id == _jump.c.jump
        )
    )
    .where(_parent.c.id == bindparam("id"))
)
_LINKS = select(_commits.c.id, _commits.c.parent, _commits.c.jump, _commits.c.depth).where(
    _commits.c.id == bindparam("id")
)
_JUMPED = _commits.alias("jumped")
# A commit, and what it jumps to, as far as needed to choose the way up.
_STEP = (
    select(
        _commits.c.id,
        _commits.c.parent,
        _commits.c.jump,
        _commits.c.depth,
        _commits.c.at_us,
        _JUMPED.c.depth.label("jump_depth"),
        _JUMPED.c.at_us.label("jump_at_us"),
    )
    .select_from(_commits.outerjoin(_JUMPED, _JUMPED.c.id == _commits.c.jump))
    .where(_commits.c.id == bindparam("id"))
)
_start = (
    select(_commits.c.id, _commits.c.parent, literal(0).label("level"))
    .where(_commits.c.id == bindparam("id"))
    .cte("below", recursive=True)
)
_below = _start.union_all(
    select(_commits.c.id, _commits.c.parent, _start.c.level + 1).join(
        _start, _commits.c.parent == _start.c.id
    )
)
# A commit and all whose first parents lead to it, parents before children.
_ALL_BELOW = select(_below.c.id, _below.c.parent).order_by(_below.c.level)
_SET = (
    update(_commits)
    .where(_commits.c.id == bindparam("id_"))
    .values(depth=bindparam("depth_"), jump=bindparam("jump_"))
)


def place_below(tx: Tx, parent: str | None) -> dict[str, Any]:
    """``depth`` and ``jump`` of a commit with this parent."""
    if parent is None:
        return {"depth": 0, "jump": None}
    row = tx.execute(_ABOVE, {"id": parent}).first()
    if row is None:  # its parent is gone: it begins a chain
        return {"depth": 0, "jump": None}
    if row.depth is None:
        _fill(tx, parent)
        row = tx.execute(_ABOVE, {"id": parent}).one()
    twice = row.jump_jump is not None and _even(row.depth, row.jump_depth, row.jump_jump_depth)
    return {"depth": row.depth + 1, "jump": row.jump_jump if twice else parent}


def ancestor(tx: Tx, id: str, up: int) -> tuple[str | None, int]:
    """The id of the commit ``up`` before another, or None; and how many there are before it."""
    row = tx.execute(_STEP, {"id": id}).one()
    if row.depth is None:
        return _ancestor_by_steps(tx, id, up)
    goal = row.depth - up
    if goal < 0:
        return None, row.depth
    return _climb(tx, id, lambda depth, _: depth is None or depth < goal, goal), row.depth


def last_before(tx: Tx, id: str, moment_us: int) -> str | None:
    """The nearest of a commit and its ancestors that is not later than a moment; None without."""
    found = _climb(tx, id, lambda _, at_us: at_us <= moment_us, -1)
    row = tx.execute(_STEP, {"id": found}).one()
    if row.at_us <= moment_us:
        return found
    return None if row.parent is None else str(row.parent)


def reseat(tx: Tx, id: str) -> None:
    """Give a commit and all below it new places, after its parent has changed. O(all below)."""
    rows = tx.execute(_ALL_BELOW, {"id": id}).all()
    places = _Places(tx)
    _keep(tx, {row.id: places.add(row.id, row.parent) for row in rows})


def _climb(tx: Tx, id: str, too_far: Callable[[Any, Any], bool], goal: int) -> str:
    """Up from ``id`` as far as nothing is too far, or to depth ``goal``."""
    row = tx.execute(_STEP, {"id": id}).one()
    while row.depth is None or row.depth > goal:
        if row.jump is not None and not too_far(row.jump_depth, row.jump_at_us):
            step = row.jump
        else:
            step = row.parent
        above = None if step is None else tx.execute(_STEP, {"id": step}).first()
        if above is None or too_far(above.depth, above.at_us):
            return str(row.id)
        row = above
    return str(row.id)


def _ancestor_by_steps(tx: Tx, id: str, up: int) -> tuple[str | None, int]:
    """The slow way, for chains that were written before places were kept."""
    before = 0
    at: str | None = id
    while before < up and at is not None:
        at = tx.execute(_LINKS, {"id": at}).one().parent
        before += at is not None
    return at, before


def _fill(tx: Tx, id: str) -> None:
    """Places for a chain that has none yet."""
    missing = []
    at: str | None = id
    while at is not None and (row := tx.execute(_LINKS, {"id": at}).first()):
        if row.depth is not None:
            break
        missing.append((row.id, row.parent))
        at = row.parent
    places = _Places(tx)
    _keep(tx, {one: places.add(one, parent) for one, parent in reversed(missing)})


class _Places:
    """Depth and jump by id: those that were made here, else as the rows have them."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self._known: dict[str, tuple[int, str | None]] = {}

    def add(self, id: str, parent: str | None) -> tuple[int, str | None]:
        """The place of a commit below ``parent``, whose own must be known."""
        above = None if parent is None else self._get(parent)
        if parent is None or above is None:
            self._known[id] = (0, None)
            return self._known[id]
        depth, jump = above
        far = self._get(jump) if jump is not None else None
        farther = self._get(far[1]) if far is not None and far[1] is not None else None
        twice = far is not None and farther is not None and _even(depth, far[0], farther[0])
        self._known[id] = (depth + 1, far[1] if twice and far is not None else parent)
        return self._known[id]

    def _get(self, id: str) -> tuple[int, str | None] | None:
        if id not in self._known:
            row = self._tx.execute(_LINKS, {"id": id}).first()
            if row is None or row.depth is None:
                return None
            self._known[id] = (row.depth, row.jump)
        return self._known[id]


def _even(depth: int, jump: int, jump_jump: int) -> bool:
    """Whether two jumps in a row are equally long: then the next commit takes both at once."""
    return depth - jump == jump - jump_jump


def _keep(tx: Tx, places: dict[str, tuple[int, str | None]]) -> None:
    rows = [{"id_": id, "depth_": place[0], "jump_": place[1]} for id, place in places.items()]
    if rows:
        tx.execute(_SET, rows)
