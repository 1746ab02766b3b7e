"""How many processes train one model together, and how they are started.

Knows numbers and words; who starts them is for ``compute``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from clew.base.errors import Invalid

LAUNCHERS = ("processes", "mpi")
MOST = 1024


class Ranks(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The ranks of a trial. Write one with :func:`workers`.

    ``count`` is a number, or the name of a parameter of the search whose value is the number.
    ``gpus`` is a number for each rank; None: one each where there are enough, else none.
    """

    count: int | str
    launcher: str = "processes"
    gpus: int | None = None
    isolated: bool = False
    mpirun: tuple[str, ...] = ("mpirun",)

    def of(self, params: dict[str, object]) -> int:
        """How many ranks a trial with these parameters has.

        Raises:
            Invalid: ``ranks.invalid`` where the parameter is missing, or is no number of ranks.
        """
        if isinstance(self.count, int):
            return self.count
        found = params.get(self.count)
        if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= MOST:
            raise _wrong(f"the parameter {self.count!r} is {found!r}, which is no number of ranks")
        return found


def workers(
    count: int | str,
    *,
    launcher: str = "processes",
    gpus: int | None = None,
    isolated: bool = False,
    mpirun: str = "mpirun",
) -> Ranks:
    """Have ``count`` processes train each trial together: ``train(workers=clew.workers(2))``.

    Args:
        count: How many; or the name of a parameter of the space, so that each trial has its own.
        launcher: ``processes`` by our own launcher, or ``mpi`` by ``mpirun``; both on the machine
            that the trial runs on, which on a Ray cluster is a node with so many cores.
        gpus: GPUs for each rank. Without it one each where there are enough, else none at all.
        isolated: Each rank sees its own GPUs alone (as device 0), in place of those of the whole
            group, of which its own is number ``LOCAL_RANK``, as scripts for torchrun expect.
        mpirun: The program with its options, for the ``mpi`` launcher.

    Raises:
        Invalid: ``ranks.invalid``.
    """
    number = isinstance(count, int) and not isinstance(count, bool) and 1 <= count <= MOST
    rules = (
        (number or (isinstance(count, str) and bool(count)), f"workers={count!r}"),
        (launcher in LAUNCHERS, f"launcher={launcher!r} is none of {', '.join(LAUNCHERS)}"),
        (gpus is None or gpus >= 0, f"gpus={gpus!r}"),
        (bool(mpirun.split()), "mpirun has no name"),
    )
    for holds, why in rules:
        if not holds:
            raise _wrong(why)
    return Ranks(
        count=count, launcher=launcher, gpus=gpus, isolated=isolated, mpirun=tuple(mpirun.split())
    )


def as_ranks(given: int | str | Ranks | None, space: Mapping[str, Any]) -> Ranks | None:
    """What a user gave as ``workers=`` beside a ``space``. Raises Invalid ``ranks.invalid``."""
    if given is None:
        return None
    found = given if isinstance(given, Ranks) else workers(given)
    if isinstance(found.count, str) and found.count not in space:
        raise _wrong(f"{found.count!r} is no parameter of the space")
    return found


def ranks_of(options: Mapping[str, Any]) -> Ranks | None:
    """Those of a training step, from its options as they are kept."""
    found = options.get("ranks")
    return None if found is None else msgspec.convert(found, Ranks)


def _wrong(why: str) -> Invalid:
    return Invalid(
        "ranks.invalid",
        f"This is no group of ranks: {why}.",
        hint=f"Write workers=2, the name of a parameter, or clew.workers(...); at most {MOST}.",
    )
