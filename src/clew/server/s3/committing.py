"""Writes of many requests to one branch, in few commits, each answered when it is durable.

Knows repos and the store; nothing of HTTP. Requests that come while a commit is being made wait,
and the next commit takes all of them: a lone writer gets a commit for each request, a hundred at
once a few for all. Every condition is judged against exactly what the commit is made on top of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from threading import Lock

from msgspec import Struct, field

from clew.base.errors import ClewError
from clew.base.records import Commit
from clew.base.records.uploads import Facts
from clew.db import Database, Tx
from clew.repos import Repos
from clew.server.s3.errors import S3Error
from clew.server.s3.gathering import AUTHOR, Gatherer
from clew.server.together import Line, Wished, whole_or_each
from clew.store import EMPTY_TREE, Entry, Store, Writer

_OPTIMISTIC = 3
_MOST_NAMED = 3


class Put(Struct, frozen=True, kw_only=True):
    """A file to be put: its content, or what the store has of it already."""

    path: str
    content: bytes | Entry
    facts: Facts


class Stored(Struct, frozen=True, kw_only=True):
    """A file as it is, with what is known of it."""

    entry: Entry
    facts: Facts | None


Check = Callable[[Stored | None], None]
"""Raises where a condition does not hold of what is at the path now."""


class Wish(Wished):
    """What one request wants of a branch: all of it or nothing.

    ``check`` is asked of the path of the first put or delete. ``along`` runs in the transaction.
    """

    puts: Sequence[Put] = ()
    deletes: Sequence[str] = ()
    check: Check | None = None
    along: Callable[[Tx], None] | None = None


class Rooms(Struct, frozen=True, kw_only=True):
    """What the gateway stands on."""

    repos: Repos
    store: Store
    db: Database
    present: Callable[[str, str], Commit | None] = lambda _repo, _branch: None
    """The open commit in which writes of a branch are gathered now."""


class Lanes:
    """A lane for each branch, so that branches do not wait for each other. Thread-safe.

    With ``gather_s`` writes are gathered until a branch was quiet for so long.
    """

    def __init__(self, rooms: Rooms, gather_s: float = 0) -> None:
        self._rooms = rooms
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._lock = Lock()
        self.gatherer = Gatherer(rooms.repos, gather_s, self._turn)
        self._gathers = gather_s > 0

    def carry_out(self, repo: str, branch: str, wish: Wish) -> None:
        """Return when the wish is committed or gathered. Raises what it was refused with."""
        self._lane(repo, branch).carry_out(wish)

    def _lane(self, repo: str, branch: str) -> Lane:
        with self._lock:
            lane = self._lanes.get((repo, branch))
            if lane is None:
                gatherer = self.gatherer if self._gathers else None
                lane = self._lanes[repo, branch] = Lane(self._rooms, repo, branch, gatherer)
            return lane

    def _turn(self, repo: str, branch: str) -> Lock:
        return self._lane(repo, branch).turn


class Lane:
    """The writes of one branch, one commit at a time."""

    def __init__(self, rooms: Rooms, repo: str, branch: str, gatherer: Gatherer | None) -> None:
        self._gatherer = gatherer
        self._rooms = rooms
        self._repo = repo
        self._branch = branch
        self._line = Line(self._work)

    def carry_out(self, wish: Wish) -> None:
        """Return when the wish is committed or gathered. Raises what it was refused with."""
        self._line.carry_out(wish)

    @property
    def turn(self) -> Lock:
        """Whoever holds it is alone on the branch."""
        return self._line.turn

    def _work(self, batch: list[Wish]) -> None:
        gatherer = self._gatherer
        if gatherer is None:
            whole_or_each(self._commit, batch)
        else:
            whole_or_each(lambda some: self._gather(gatherer, some), batch)

    def _commit(self, batch: list[Wish]) -> None:
        rooms = self._rooms
        head = rooms.repos.head(self._repo, self._branch)
        with rooms.store.lease(), rooms.store.writer() as writer:
            known = {id(wish): _stage(writer, wish) for wish in batch}
            for _ in range(_OPTIMISTIC):
                made = _Made(rooms, self._repo, head, writer)
                made.take(batch, known)
                with rooms.db.begin() as tx:
                    now = rooms.repos.head(self._repo, self._branch, tx=tx)
                    if _id(now) == _id(head):
                        self._record(tx, made)
                        return
                head = now
            with ExitStack() as stack:  # a busy branch: nobody moves it while we hold the lock
                tx = stack.enter_context(rooms.db.begin())
                head = rooms.repos.head(self._repo, self._branch, tx=tx)
                made = _Made(rooms, self._repo, head, writer)
                made.take(batch, known)
                self._record(tx, made)

    def _gather(self, gatherer: Gatherer, batch: list[Wish]) -> None:
        """Write into the open commit of the branch. Facts come first: alone they mean nothing."""
        rooms = self._rooms
        with rooms.store.lease(), rooms.store.writer() as writer:
            known = {id(wish): _stage(writer, wish) for wish in batch}
            commit = gatherer.begin(self._repo, self._branch)
            made = _Made(rooms, self._repo, commit, writer)
            made.take(batch, known)
            with rooms.db.begin() as tx:
                rooms.repos.facts.keep(tx, self._repo, made.facts)
            if made.tree != made.base:
                puts = [entry for entry, _ in made.puts.values()]
                gatherer.add(commit, puts, sorted(made.deletes))
            with rooms.db.begin() as tx:
                for act in made.along:
                    act(tx)

    def _record(self, tx: Tx, made: _Made) -> None:
        repos = self._rooms.repos
        if made.tree != made.base:
            commit = repos.open_commit(
                self._repo, branch=self._branch, message=made.message(), author=AUTHOR, tx=tx
            )
            repos.finish(commit.id, made.tree, tx=tx)
        self._rooms.repos.facts.keep(tx, self._repo, made.facts)
        for act in made.along:
            act(tx)


class _Made(Struct):
    """What a batch makes of a head."""

    rooms: Rooms
    repo: str
    head: Commit | None
    writer: Writer
    puts: dict[str, tuple[Entry, Facts]] = field(default_factory=dict)
    deletes: set[str] = field(default_factory=set)
    along: list[Callable[[Tx], None]] = field(default_factory=list)
    tree: str = EMPTY_TREE

    @property
    def base(self) -> str:
        """The tree of the head."""
        return EMPTY_TREE if self.head is None else self.head.tree

    @property
    def facts(self) -> list[tuple[str, str, Facts]]:
        """Facts of what is put."""
        return [(path, entry.digest, facts) for path, (entry, facts) in self.puts.items()]

    def take(self, batch: Sequence[Wish], known: dict[int, list[tuple[Entry, Facts]]]) -> None:
        """Apply each wish whose condition holds, in order; the others learn why not."""
        for wish in batch:
            wish.error = None
            try:
                self._apply(wish, known[id(wish)])
            except (S3Error, ClewError) as error:
                wish.error = error
        entries = [entry for entry, _ in self.puts.values()]
        self.tree = self.writer.tree(self.base, entries, self.deletes)
        self.writer.flush()

    def message(self) -> str:
        """What the commit is about."""
        names = [f"put {path[1:]}" for path in self.puts]
        names += [f"delete {path[1:]}" for path in sorted(self.deletes)]
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        return f"s3: {', '.join(names[:_MOST_NAMED])}{more}"

    def _apply(self, wish: Wish, staged: list[tuple[Entry, Facts]]) -> None:
        paths = [*(put.path for put in wish.puts), *wish.deletes]
        if wish.check is not None and paths:
            wish.check(self._now(paths[0]))
        for entry, facts in staged:
            self.puts[entry.path] = (entry, facts)
            self.deletes.discard(entry.path)
        for path in wish.deletes:
            self.puts.pop(path, None)
            if self.rooms.store.get(self.base, path) is not None:  # never a directory
                self.deletes.add(path)
        if wish.along is not None:
            self.along.append(wish.along)

    def _now(self, path: str) -> Stored | None:
        if path in self.puts:
            entry, facts = self.puts[path]
            return Stored(entry=entry, facts=facts)
        found = None if path in self.deletes else self.rooms.store.get(self.base, path)
        if found is None:
            return None
        known = self.rooms.repos.facts.known(self.repo, [(path, found.digest)])
        return Stored(entry=found, facts=known.get(path))


def _stage(writer: Writer, wish: Wish) -> list[tuple[Entry, Facts]]:
    """Give the bytes of a wish to the writer."""
    staged = []
    for put in wish.puts:
        entry = put.content
        if isinstance(entry, bytes):
            digest, size_bytes = writer.put(entry)
            entry = Entry(path=put.path, digest=digest, size_bytes=size_bytes)
        staged.append((entry, put.facts))
    return staged


def _id(commit: Commit | None) -> str | None:
    return None if commit is None else commit.id
