"""Trials of death: run as ``trials.py DIRECTORY FIRST DEATHS``; prints what went wrong.

A trial is a number. From it follow a history of commits, branches, drops, squashes and collections,
the step at which the process dies, and how: kill -9 at a write to the disk, kill -9 at a statement
or a commit of the database, or a loss of power that takes back any part of what was not synced.
Then another process looks: every ref must be old or new, every reachable byte there, and ``fsck``
clean; life must go on; and the database must be rebuilt from the store, also by a second process
where the first one dies of it. Trials go on until so many processes have died.

What SQLite's own files lose with the power is SQLite's (``synchronous=FULL``): its tests cut it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

import sqlalchemy as sa

from clew.base.errors import Conflict
from clew.db import Database
from clew.repos import Repos
from clew.store import Store
from clew.store.local import Disk

DIED = 77
OPERATIONS = 9
State = dict[str, dict[str, str]]


class Dying(Disk):
    """Ends the process at the n-th step. With ``rng`` the power goes too: what was not synced may
    or may not have reached the medium, each name for itself.
    """

    def __init__(self, n: int, rng: random.Random | None) -> None:
        self.left = n
        self._rng = rng
        self._lock = Lock()
        self._unsynced: dict[int, Path | None] = {}
        self._renamed: list[tuple[Path, bytes | None]] = []
        self._removed: list[tuple[Path, bytes]] = []

    def _step(self) -> None:
        self.left -= 1
        if self.left > 0:
            return
        if self._rng is None:
            os.kill(os.getpid(), signal.SIGKILL)
        self._lose(self._rng)
        os._exit(DIED)

    def _lose(self, rng: random.Random | None) -> None:
        assert rng is not None
        for target, before in self._renamed:
            if target.exists() and target.stat().st_ino in self._unsynced:
                os.truncate(target, rng.randrange(target.stat().st_size + 1))
            if rng.random() < 0.5:
                target.unlink(missing_ok=True)
                if before is not None:
                    target.write_bytes(before)
        for path, data in self._removed:
            if rng.random() < 0.5:
                path.write_bytes(data)

    def write(self, descriptor: int, parts: Sequence[bytes]) -> None:
        with self._lock:
            self._unsynced[os.fstat(descriptor).st_ino] = None
            data = b"".join(parts)
            super().write(descriptor, [data[: len(data) // 2]])
            self._step()
            super().write(descriptor, [data[len(data) // 2 :]])

    def sync(self, descriptor: int) -> None:
        with self._lock:
            self._step()
            self._unsynced.pop(os.fstat(descriptor).st_ino, None)

    def rename(self, source: Path, target: Path) -> None:
        with self._lock:
            self._step()
            before = target.read_bytes() if target.exists() else None
            super().rename(source, target)
            self._renamed.append((target, before))

    def sync_directory(self, directory: Path) -> None:
        with self._lock:
            self._step()
            self._renamed = [one for one in self._renamed if one[0].parent != directory]
            self._removed = [one for one in self._removed if one[0].parent != directory]

    def remove(self, path: Path) -> None:
        with self._lock:
            self._step()
            if path.exists():
                self._removed.append((path, path.read_bytes()))
            super().remove(path)


def opened(home: Path, disk: Disk | None = None) -> tuple[Database, Repos]:
    """Repos that do not linger, and soon tell the journal."""
    db = Database.open(f"sqlite:///{home / 'clew.db'}")
    db.create()
    store = Store.open(home / "store", disk=disk)
    store._leases.linger_s = 0.0
    return db, Repos(db, store)


class History:
    """Makes a history, and says before each step what it will lead to."""

    def __init__(self, repos: Repos, rng: random.Random, log: int) -> None:
        self.repos = repos
        self.rng = rng
        self.log = log
        self.lines: dict[str, list[dict[str, str]]] = {"main": [{}]}

    def state(self) -> State:
        return {branch: line[-1] for branch, line in self.lines.items()}

    def tell(self, *states: State) -> None:
        os.write(self.log, json.dumps(states).encode() + b"\n")

    def run(self) -> None:
        self.tell(self.state())
        steps = (
            *[self.put] * 6, *[self.big] * 2, self.delete, self.branch, *[self.drop] * 2,
            self.squash, *[self.collect] * 4, self.many,
        )  # fmt: skip
        for _ in range(OPERATIONS):
            self.rng.choice(steps)()
        self.collect()

    def commit(self, branch: str, puts: dict[str, bytes], deletes: Sequence[str] = ()) -> None:
        now = dict(self.lines[branch][-1])
        for path in deletes:
            del now[path]
        now |= {
            path: content[:40].decode("latin-1") + str(len(content))
            for path, content in puts.items()
        }
        before = self.state()
        self.tell(before, before | {branch: now})
        self.repos.commit("raw", puts, deletes, branch=branch)
        self.lines[branch].append(now)
        self.tell(self.state())

    def put(self) -> None:
        content = b"%d" % self.rng.randrange(6) * self.rng.choice([1, 300])
        self.commit(self.any(), {f"/{self.rng.randrange(9)}": content})

    def big(self) -> None:
        content = random.Random(self.rng.randrange(3)).randbytes(1_300_000)
        self.commit(self.any(), {"/big": content})

    def many(self) -> None:
        self.commit(self.any(), {f"/d/{n}": b"%d" % n for n in range(self.rng.randrange(1, 150))})

    def delete(self) -> None:
        branch = self.any()
        paths = sorted(self.lines[branch][-1])
        if paths:
            self.commit(branch, {}, [self.rng.choice(paths)])

    def branch(self) -> None:
        name = f"b{len(self.lines)}"
        head = self.repos.branches("raw").get("main")
        if head is None:
            return
        before = self.state()
        self.tell(before, before | {name: before["main"]})
        self.repos.create_branch("raw", name, at=head)
        self.lines[name] = list(self.lines["main"])
        self.tell(self.state())

    def drop(self) -> None:
        branch = self.any()
        head = self.repos.branches("raw").get(branch)
        if head is None:
            return
        before = self.state()
        shared = {name for name, other in self.repos.branches("raw").items() if other == head}
        after = before | dict.fromkeys(shared, self.lines[branch][-2])
        self.tell(before, after)
        try:
            self.repos.drop(head)
        except Conflict:  # others go on from it
            self.tell(before)
            return
        for name in shared:
            self.lines[name] = self.lines[name][:-1]
        self.tell(self.state())

    def squash(self) -> None:
        commits = self.repos.log("raw") if self.repos.branches("raw").get("main") else []
        if len(commits) > 2:
            try:
                self.repos.squash(self.rng.choice(commits[1:]).id)
            except Conflict:
                return
            self.lines = {
                name: [{}] * (len(self.repos.log("raw", name))) + [line[-1]]
                for name, line in self.lines.items()
            }
            for name, line in self.lines.items():
                log = self.repos.log("raw", name)
                line[: len(log)] = [{}, *(self.look(one) for one in log[:0:-1])]
            self.tell(self.state())

    def look(self, commit: object) -> dict[str, str]:
        return content(self.repos, commit)

    def collect(self) -> None:
        thorough = self.rng.random() < 0.5
        self.repos.collect([], thorough=thorough, wait_s=5)

    def any(self) -> str:
        return self.rng.choice(sorted(self.lines))


def content(repos: Repos, head: object) -> dict[str, str]:
    """Every path with the beginning and the size of its bytes, all of which are read."""
    found = {}
    for info in repos.entries(head):
        data = repos.read(head, info.path)
        found[info.path] = data[:40].decode("latin-1") + str(len(data))
    return found


class DyingRows:
    """Ends the process before or after the n-th statement, or in a commit."""

    def __init__(self, n: int) -> None:
        self.left = n

    def listen(self, db: Database) -> None:
        for moment in ("before_cursor_execute", "after_cursor_execute", "commit"):
            sa.event.listen(db._engine, moment, self._step)

    def _step(self, *_: object, **__: object) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def live(home: Path, trial: int, log: int) -> None:
    """The process that dies."""
    rng = random.Random(trial)
    if trial % 4 == 0:
        db, repos = opened(home)
        DyingRows(rng.randrange(1, 900)).listen(db)
    else:
        power = random.Random(trial) if trial % 2 else None
        _, repos = opened(home, Dying(rng.randrange(1, 70), power))
    History(repos, rng, log).run()


def live_rebuilding(home: Path, trial: int) -> None:
    """The process that dies while it makes the database anew."""
    rng = random.Random(trial)
    db = Database.open(f"sqlite:///{home / 'anew.db'}")
    if trial % 8:
        DyingRows(rng.randrange(1, 150)).listen(db)
    db.create()
    disk = None if trial % 8 else Dying(1, None)
    Repos(db, Store.open(home / "store", disk=disk)).rebuild()


def look(home: Path, log: Path) -> str:
    """What is wrong after a death; '' where all is well."""
    lines = log.read_text().splitlines()
    allowed: list[State] = json.loads(lines[-1]) if lines else [{"main": {}}]
    db, repos = opened(home)
    try:
        found = {
            branch: content(repos, repos.head("raw", branch)) if head else {}
            for branch, head in ({"main": None} | repos.branches("raw")).items()
        }
        if found not in allowed:
            return f"refs are neither old nor new: {str(found)[:300]} of {str(allowed)[:600]}"
        for moment in ("at once", "after a collection"):
            problems = repos.check([]).problems
            if problems:
                return f"fsck {moment}: {problems[0].code} {problems[0].message}"
            repos.collect([], thorough=True, wait_s=5)
        again = repos.commit("raw", {"/after": b"life goes on"})
        if repos.read(again, "/after") != b"life goes on":
            return "what is committed afterwards is lost"
        repos.settle()
        return ""
    finally:
        db.close()


def look_rebuilt(home: Path) -> str:
    """What is wrong with the database that is made anew; '' where all is well."""
    db, repos = opened(home)
    try:
        return _rebuilt(home, repos)
    finally:
        db.close()


def _rebuilt(home: Path, repos: Repos) -> str:
    db = Database.open(f"sqlite:///{home / 'anew.db'}")
    db.create()
    try:
        anew = Repos(db, Store.open(home / "store"))
        if not anew.list():  # else the one that died had done it
            anew.rebuild()
        same = anew.get("raw") == repos.get("raw") and anew.check([]).problems == ()
        return "" if same else f"rebuilt: {anew.get('raw')} of {repos.get('raw')}"
    finally:
        db.close()


def child(act: object, *arguments: object) -> int:
    """Run in a process of its own; how it ended."""
    pid = os.fork()
    if pid == 0:
        try:
            act(*arguments)
            os._exit(0)
        except BaseException as error:
            sys.stdout.write(f"{act.__name__}: {type(error).__name__}: {error}\n")
            sys.stdout.flush()
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)


def _prepare(template: Path) -> None:
    template.mkdir()
    db, repos = opened(template)
    repos.create("raw")
    db.close()


def _judge(act: Callable[..., str], *arguments: object) -> None:
    wrong = act(*arguments)
    if wrong:
        raise AssertionError(wrong)


def main() -> None:
    """See the module."""
    directory, trial, wanted = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    template = directory / "template"
    child(_prepare, template)
    first, deaths, rebuilding = trial, 0, 0
    while deaths + rebuilding < wanted and trial < first + 3 * wanted:
        home = directory / str(trial)
        shutil.copytree(template, home)
        log = directory / f"{trial}.log"
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        ended = [child(live, home, trial, descriptor)]
        os.close(descriptor)
        deaths += ended[0] in {DIED, -signal.SIGKILL}
        ended.append(child(_judge, look, home, log))
        if trial % 2 == 0 and not ended[1]:
            ended.append(child(live_rebuilding, home, trial))
            rebuilding += ended[2] == -signal.SIGKILL
        ended.append(child(_judge, look_rebuilt, home))
        if 1 in ended:
            sys.stdout.write(f"trial {trial} failed (it ended with {ended})\n")
            sys.stdout.flush()
        else:
            shutil.rmtree(home)
        trial += 1
    told = f"{deaths} while writing, {rebuilding} while rebuilding, in {trial - first} trials"
    sys.stdout.write(f"deaths: {deaths + rebuilding} ({told})\n")


if __name__ == "__main__":
    main()
