"""Resource pools as settings name them: so many slots for processes, and these GPUs.

Knows words and numbers; who has a slot is for ``compute``.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from clew.base.errors import Invalid

DEFAULT = "default"
REST = "*"
"""All GPUs that no other pool names."""


class PoolSize(msgspec.Struct, frozen=True, kw_only=True):
    """One pool. ``cpus``: how many processes run in it at a time; ``gpus``: numbers of GPUs as
    ``nvidia-smi`` counts them, beginnings of their ids, or ``*``.
    """

    name: str
    cpus: int
    gpus: tuple[str, ...] = ()


def read_pools(text: str) -> tuple[PoolSize, ...]:
    """What ``CLEW_POOLS`` says: ``"train=cpu:2,gpu:0,gpu:1; night=cpu:1"``.

    A pool without ``cpu:`` has as many as it has GPUs, and at least one.

    Raises:
        Invalid: ``settings.invalid``.
    """
    found = tuple(_read_pool(part.strip()) for part in text.split(";") if part.strip())
    names = [one.name for one in found]
    gpus = [gpu for one in found for gpu in one.gpus]
    for what, given in (("pool", names), ("GPU", gpus)):
        twice = sorted({one for one in given if given.count(one) > 1})
        if twice:
            raise _wrong(f"the {what} {twice[0]} is there twice")
    return found


def with_default(pools: Sequence[PoolSize], cores: int) -> tuple[PoolSize, ...]:
    """The pools with ``default``, which has what the others leave of ``cores`` and of the GPUs."""
    if any(one.name == DEFAULT for one in pools):
        return tuple(pools)
    left = max(1, cores - sum(one.cpus for one in pools))
    rest = () if any(REST in one.gpus for one in pools) else (REST,)
    return (PoolSize(name=DEFAULT, cpus=left, gpus=rest), *pools)


def _read_pool(text: str) -> PoolSize:
    name, equals, slots = text.partition("=")
    name = name.strip()
    if not equals or not name or not all(one.isalnum() or one in "-_" for one in name):
        raise _wrong(f"{text!r} is no pool")
    cpus, gpus = 0, list[str]()
    for slot in slots.split(","):
        kind, _, value = slot.strip().partition(":")
        if kind == "cpu" and value.isdigit() and int(value) > 0 and not cpus:
            cpus = int(value)
        elif kind == "gpu" and value:
            gpus.append(value)
        else:
            raise _wrong(f"{slot.strip()!r} of the pool {name} is no slot")
    return PoolSize(name=name, cpus=cpus or max(1, len(gpus)), gpus=tuple(gpus))


def _wrong(why: str) -> Invalid:
    return Invalid(
        "settings.invalid",
        f"CLEW_POOLS cannot be read: {why}.",
        hint='Write pools such as "train=cpu:2,gpu:0,gpu:1; night=cpu:1".',
    )
