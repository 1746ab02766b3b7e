"""Who has the GPUs of this machine now: locks that the system lets go when their holder ends.

Knows files; which GPUs there are is for :mod:`clew.base.gpus`.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from clew.base.errors import Unavailable
from clew.base.gpus import Gpu, gpus

_AGAIN_S = 0.2


class Lease:
    """GPUs that no other group of this user on this machine is given while this is open.

    Held by locks that the system lets go when the process ends, however it ends.
    """

    def __init__(self, held: Mapping[int, Gpu]) -> None:
        self._held = dict(held)

    @property
    def gpus(self) -> list[Gpu]:
        """In the order in which they were asked for."""
        return list(self._held.values())

    def close(self) -> None:
        """Give them back. Idempotent."""
        for descriptor in self._held:
            os.close(descriptor)
        self._held = {}


def lease(
    count: int,
    *,
    among: Callable[[], list[Gpu]] = gpus,
    directory: Path | None = None,
) -> Lease:
    """Wait until ``count`` GPUs are free, and hold them: all or none, so that nobody waits in turn.

    Raises:
        Unavailable: ``gpus.too_few`` where there are not so many.
    """
    if not count:
        return Lease({})
    found = among()
    if len(found) < count:
        raise Unavailable(
            "gpus.too_few",
            f"{count} GPUs are wanted, and {len(found)} are here.",
            hint="Ask for fewer, or look at nvidia-smi and CUDA_VISIBLE_DEVICES.",
        )
    while (held := lease_now(count, found, directory=directory)) is None:
        time.sleep(_AGAIN_S)
    return held


def lease_now(count: int, among: Sequence[Gpu], *, directory: Path | None = None) -> Lease | None:
    """Hold ``count`` of these GPUs, the first that are free; None where others have too many."""
    places = directory or Path(tempfile.gettempdir(), f"clew-gpus-{os.getuid()}")
    places.mkdir(mode=0o700, exist_ok=True)
    held: dict[int, Gpu] = {}
    for gpu in among if count else ():
        descriptor = _lock(places / gpu.uuid.replace("/", "-"))
        if descriptor is not None:
            held[descriptor] = gpu
        if len(held) == count:
            return Lease(held)
    lease = Lease(held)
    if not count:
        return lease
    lease.close()
    return None


def _lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
