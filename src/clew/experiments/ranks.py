"""A trial of several ranks: the call that starts them, and what is made of what they say.

Knows trials, checkpoints and the store; how ranks are started is for ``compute``, which finds
:class:`TrialConductor` by its name and runs it beside the launcher.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from clew.base.errors import Invalid
from clew.base.ranks import Ranks
from clew.compute import Call, CallContext
from clew.experiments.boosting import Tracker
from clew.experiments.paths import META_PATH, SHARDS
from clew.store import EMPTY_TREE, Entry, Store

_GROUP = "clew.compute.ranks:run_group"
_RANK = "clew.experiments.members:run_rank"
_CONDUCTOR = "clew.experiments.ranks:TrialConductor"

Reply = Callable[[dict[str, object]], None]


Holds = Callable[[Mapping[str, float], int], int]
"""How many calls that need this, in so many parts, the pool could hold."""


def in_ranks(
    call: Call,
    ranks: Ranks | None,
    params: Mapping[str, object],
    *,
    attempt: int = 0,
    holds: Holds = lambda _resources, _parts: 0,
    spreads: bool = False,
    off: Mapping[str, str] | None = None,
) -> Call:
    """The call of a trial as it is, or as one that several ranks carry out together.

    ``attempt``: how often ranks of the trial have died. ``spreads``: they may be on several
    machines of a cluster, if nobody else (mpirun) starts them; ``off``: labels that keep them off
    machines that are excluded. Raises Invalid ``ranks.invalid``.
    """
    if ranks is None:
        return call
    size = ranks.of(dict(params))
    resources = needed(ranks, size, call.resources, holds)
    each = int(resources.get("GPU", 0)) // size
    spread = spreads and size > 1 and ranks.launcher == "processes"
    if spread and call.program:
        raise Invalid(
            "ranks.environment",
            f"{call.label} has an environment of its own, and its ranks are to be on several "
            "machines.",
            hint="Leave out requirements= and install the packages on the cluster, or train on "
            "one machine.",
        )
    ranks = msgspec.structs.replace(ranks, gpus=each, launcher="ray" if spread else ranks.launcher)
    orders = {
        "ranks": msgspec.to_builtins(ranks),
        "size": size,
        "label": call.label,
        "entry": _RANK,
        "conductor": _CONDUCTOR,
        "snapshot_dir": call.snapshot_dir,
        "program": list(call.program),
        "payload": {**call.payload, "size": size},
        "store": call.payload["store"],
        "environment": call.environment,
        "resources": resources if spread else {},
        "placement": {**call.placement, **(off or {})} if spread else {},
        "attempt": attempt,
    }
    return Call(
        entry=_GROUP,
        payload=orders,
        label=call.label,
        timeout_s=call.timeout_s,
        memory_bytes=call.memory_bytes,
        snapshot_dir=call.snapshot_dir,
        environment=call.environment,
        priority=call.priority,
        program=call.program,
        resources={"CPU": 0.0} if spread else resources,  # the launcher only listens
        placement=call.placement,
        pool=call.pool,
        beside=resources if spread else {},
    )


def needed(
    ranks: Ranks | None, size: int, resources: Mapping[str, float], holds: Holds
) -> dict[str, float]:
    """What a trial of so many ranks takes of its pool: a process each, and GPUs.

    Where nobody says how many GPUs, one each if the pool has so many, else none.
    """
    if ranks is None:
        return dict(resources)
    each = ranks.gpus
    if each is None:
        each = 1 if "GPU" not in resources and holds({"GPU": float(size)}, size) else 0
    gpus = {"GPU": float(size * each)} if each else {}
    return {"CPU": float(size), **gpus, **resources}


def most_ranks(ranks: Ranks | None, space: Mapping[str, Any]) -> int:
    """How many ranks a trial may have at most, as far as the space says; 1 where there is none."""
    if ranks is None:
        return 1
    if isinstance(ranks.count, int):
        return ranks.count
    found = space.get(ranks.count)
    numbers = [getattr(found, "high", 1), *getattr(found, "options", ())]
    return max([1, *(int(number) for number in numbers if isinstance(number, int | float))])


class TrialConductor:
    """Hears the ranks of one trial: rank 0 speaks to the search, the others learn its decisions.

    A checkpoint in parts is told to the search when every rank's part is durable and the step is
    over for rank 0: one tree, one commit.
    """

    def __init__(self, payload: dict[str, Any], context: CallContext) -> None:
        self._payload = payload
        self._context = context
        self._store = Store.attach(payload["store"])
        self._size: int = payload["size"]
        self._decisions = {name: _Decisions(self._size) for name in ("steps", "stop", "due")}
        self._parts: dict[int, dict[int, tuple[int, str]]] = defaultdict(dict)
        self._whole: set[int] = set()
        self._tracker: Tracker | None = None

    def payload_of(self, rank: int) -> dict[str, object]:
        """That of the trial, with what this rank begins with."""
        tree = part_of(self._store, self._payload["restore"], rank, self._size)
        return {**self._payload, "rank": rank, "restore": tree}

    def heard(self, rank: int, message: dict[str, Any]) -> None:
        """Keep what is for the group, pass on what rank 0 has for the search."""
        kind = message["kind"]
        if kind == "ranks.over":
            self._decisions[message["stream"]].decide(message)
        elif kind == "ranks.due":
            self._decisions["due"].decide(message)
        elif kind == "ranks.shard":
            self._parts[message["number"]][rank] = message["step"], message["tree"]
            self._tell_whole(message["number"])
        elif kind == "ranks.whole":
            self._whole.add(message["number"])
            self._tell_whole(message["number"])
        elif rank == 0:
            self._context.send(message)

    def asked(self, rank: int, message: dict[str, Any], reply: Reply) -> None:
        """Answer with what rank 0 has decided, or will; pass on what rank 0 asks the search."""
        kind = message["kind"]
        if kind == "ranks.over":
            self._decisions[message["stream"]].ask(rank, reply)
        elif kind == "ranks.due":
            self._decisions["due"].ask(rank, reply)
        elif kind == "ranks.tracker":
            self._tracker = self._tracker or Tracker(self._size)
            reply(self._tracker.arguments())
        elif rank == 0:
            reply(self._context.ask(message))
        else:
            raise Invalid("call.unanswered", f"Nobody answers {kind!r} to rank {rank}.")

    def ended(self, rank: int) -> None:
        """Nobody waits for a rank 0 that is done."""
        if rank == 0:
            for decisions in self._decisions.values():
                decisions.close({"over": True, "paused": False, "due": False})

    def end(self, values: list[Any]) -> object:
        """The value of rank 0, whose checkpoint has the parts of the others."""
        value = {name: found for name, found in values[0].items() if name != "sharded"}
        if values[0]["sharded"]:
            _check_same([one["checkpoint_step"] if one["sharded"] else None for one in values])
            value["tree"] = joined(self._store, [one["tree"] for one in values])
        if self._tracker is not None:
            self._tracker.close()
        return value

    def _tell_whole(self, number: int) -> None:
        parts = self._parts[number]
        if number not in self._whole or len(parts) < self._size:
            return
        _check_same([step for step, _ in parts.values()])
        tree = joined(self._store, [parts[rank][1] for rank in range(self._size)])
        self._context.send({"kind": "checkpoint", "step": parts[0][0], "tree": tree})
        for old in [one for one in self._parts if one <= number]:
            del self._parts[old]
            self._whole.discard(old)


class _Decisions:
    """Decisions of rank 0 in order; each other rank gets every one of them, once, in that order."""

    def __init__(self, size: int) -> None:
        self._made: deque[dict[str, object]] = deque()
        self._before = 0
        self._asked = dict.fromkeys(range(1, size), 0)
        self._waiting: dict[int, Reply] = {}
        self._last: dict[str, object] | None = None

    def decide(self, decision: dict[str, object]) -> None:
        """Rank 0 has decided once more."""
        self._made.append(decision)
        self._serve()

    def ask(self, rank: int, reply: Reply) -> None:
        """A rank wants its next one, now or when it is made."""
        self._waiting[rank] = reply
        self._serve()

    def close(self, last: dict[str, object]) -> None:
        """Rank 0 decides no more; who still asks is told the ``last``."""
        self._last = last
        self._serve()

    def _serve(self) -> None:
        for rank, reply in list(self._waiting.items()):
            at = self._asked[rank] - self._before
            answer = self._made[at] if at < len(self._made) else self._last
            if answer is not None:
                del self._waiting[rank]
                self._asked[rank] += 1
                reply(answer)
        self._forget()

    def _forget(self) -> None:
        """What every rank has had is not kept."""
        slowest = min(self._asked.values(), default=0)
        while self._before < slowest and self._made:
            self._made.popleft()
            self._before += 1


def part_of(store: Store, tree: str, rank: int, size: int) -> str:
    """The tree that a rank begins with: its own part where there are parts, else all of it.

    Raises:
        Invalid: ``checkpoint.ranks`` where there are parts for another number of ranks.
    """
    entries = list(store.entries(tree, SHARDS)) if tree else []
    if not entries:
        return tree
    there = 1 + len({entry.path.split("/")[2] for entry in entries})
    if there != size:
        raise Invalid(
            "checkpoint.ranks",
            f"This checkpoint has the parts of {there} ranks, and {size} are to go on from it.",
            hint=f"Go on with workers={there}, or save checkpoints without shard=True.",
        )
    if rank == 0:
        return tree
    prefix = f"{SHARDS}/{rank}"
    own = [entry for entry in entries if entry.path.startswith(f"{prefix}/")]
    return _tree_of(store, EMPTY_TREE, [(e.path.removeprefix(prefix), e) for e in own])


def joined(store: Store, trees: Sequence[str]) -> str:
    """One tree of those of all ranks: the first, with what each other has below ``/ranks/RANK``."""
    found = [
        (f"{SHARDS}/{rank}{entry.path}", entry)
        for rank, tree in enumerate(trees)
        if rank
        for entry in store.entries(tree)
        if entry.path != META_PATH
    ]
    return _tree_of(store, trees[0], found)


def _tree_of(store: Store, base: str, found: list[tuple[str, Entry]]) -> str:
    entries = [
        Entry(path=path, digest=entry.digest, size_bytes=entry.size_bytes)
        for path, entry in sorted(found, key=lambda one: one[0])
    ]
    with store.writer() as writer:
        return writer.tree(base, entries)


def _check_same(steps: Sequence[int | None]) -> None:
    if None in steps or len(set(steps)) > 1:
        said = ", ".join("none" if step is None else str(step) for step in steps)
        raise Invalid(
            "checkpoint.shards",
            f"The ranks have parts of different checkpoints: of steps {said}.",
            hint="Call trial.checkpoint(..., shard=True) on every rank, in the same step.",
        )
