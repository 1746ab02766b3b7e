"""Records of keeping a workspace in order: what was collected, found wrong, rebuilt, and what fills
the disk.

Plain values that travel between rooms and over the wire; they know no storage.
"""

from __future__ import annotations

from msgspec import Struct


class Collected(Struct, frozen=True, kw_only=True):
    """What a garbage collection did, or (``dry_run``) would do.

    ``objects`` and ``freed_bytes`` are what went. ``kept_bytes`` is garbage that stays for now, in
    packs that are mostly alive. ``waiting`` names work that may still lean on what was condemned:
    then nothing of ``condemned_objects`` went yet, and the next collection goes on with it.
    """

    dry_run: bool
    objects: int
    freed_bytes: int
    packs_removed: int
    packs_rewritten: int
    packs_merged: int
    live_objects: int
    live_bytes: int
    kept_bytes: int
    condemned_objects: int = 0
    condemned_bytes: int = 0
    waiting: tuple[str, ...] = ()
    logs: int = 0
    """Of how many jobs the log was older than ``CLEW_KEEP_LOGS``, and went."""
    feedback: int = 0
    """Rows of committed feedback that were older than ``CLEW_KEEP_FEEDBACK``, and went."""


class Problem(Struct, frozen=True, kw_only=True):
    """One thing that ``clew fsck`` found wrong, and what it hits.

    ``code`` is stable. ``commits`` are the ids of commits that cannot be read whole, ``paths`` the
    first of their files that cannot, as ``repo@commit:/path``. ``repaired`` says what was done.
    """

    code: str
    message: str
    hint: str = ""
    commits: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    repaired: str = ""


class Checkup(Struct, frozen=True, kw_only=True):
    """What ``clew fsck`` looked at, and what is wrong: nothing, where ``problems`` is empty."""

    packs: int
    objects: int
    size_bytes: int
    commits: int
    refs: int
    problems: tuple[Problem, ...]


class Usage(Struct, frozen=True, kw_only=True):
    """Bytes of one repo, branch or commit (``name``), or of what no repo names (``other``).

    ``logical_bytes`` is the size of the files of all its versions, each counted whole;
    ``stored_bytes`` what they take in the store, compressed and every content once;
    ``exclusive_bytes`` what would be free if it were deleted.
    """

    name: str
    commits: int
    files: int
    logical_bytes: int
    stored_bytes: int
    exclusive_bytes: int


class Rebuilt(Struct, frozen=True, kw_only=True):
    """What ``clew rebuild`` has made again from the store.

    ``unconfirmed`` are commits whose bytes stand in the store while nothing says whether their
    transaction was ever completed: taken, because they fit on top of a branch. ``left_out`` are
    those that did not fit. ``lost`` says in words what is not in the store.
    """

    repos: int
    branches: int
    commits: int
    tags: int
    unconfirmed: tuple[str, ...]
    left_out: tuple[str, ...]
    lost: tuple[str, ...]
