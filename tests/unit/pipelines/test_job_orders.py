"""Jobs in any order of events do what a plain model says: also over crashes at any transaction.

The model knows dictionaries and lists: no keys, no caches, no trees. One job runs at a time, so
that it can say which one is next.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from clew.base.errors import ClewError, Conflict, Unavailable
from clew.base.ids import new_id
from clew.compute.inline import InlinePool
from clew.pipelines import tables
from clew.repos import RepoChange

from .conftest import Lab

if TYPE_CHECKING:
    from clew.db import Tx

CODE = """
K = {k!r}
def note(what):
    with open({runs!r}, "a") as file:
        file.write(what + "\\n")
def up(raw: str) -> str:
    note(K + " " + raw)
    if "!" in raw:
        raise ValueError("no good")
    return raw + K
def join(up: list[str]) -> str:
    return "+".join(up)
def both(join: str, side: list[str]) -> str:
    return join + "|" + "-".join(side)
"""
READS = {"up": ["raw"], "join": ["up"], "both": ["join", "side"]}
ENDED = {"done", "failed", "blocked", "cancelled"}
Files = dict[str, str]


@dataclass
class ModelJob:
    step: str
    change: str
    state: str
    forced: bool = False
    output: Files = field(default_factory=dict)


class Model:
    """What there is, as plain as it can be."""

    def __init__(self) -> None:
        self.k = "1"
        self.steps = ["up", "join", "both"]
        self.heads: dict[str, Files | None] = dict.fromkeys(["raw", "side", *READS])
        self.own: dict[tuple[str, str], Files | ModelJob] = {}
        self.jobs: list[ModelJob] = []
        self.paused: set[str] = set()

    # what happens ---------------------------------------------------------------------------

    def commit(self, change: str, contents: dict[str, Files]) -> None:
        for repo, files in contents.items():
            self.heads[repo] = self.own[change, repo] = dict(files)
        wishes = [step for repo in contents for step in self.readers(repo)]
        self.make(change, wishes, set(contents))

    def make(
        self,
        change: str,
        wishes: Iterable[str],
        provided: set[str],
        forced: bool = False,
        again: bool = True,
    ) -> int:
        """Jobs for steps and all that reads them; how many. ``again``: whatever has ended."""
        of_change = self.of(change)
        taken = {job.step for job in of_change if job.state == "waiting" or not again}
        pending = {job.step for job in self.jobs if job.state not in ENDED}
        queue = list(dict.fromkeys(wishes))
        asked, made = set(queue), 0
        while queue:
            step = queue.pop(0)
            there = provided | pending
            has_all = step in self.steps and all(
                repo in there or self.heads[repo] is not None for repo in READS[step]
            )
            if step in taken or not has_all:
                continue
            taken.add(step)
            state = "paused" if self.paused & {"p", f"p/{step}"} else "waiting"
            job = ModelJob(step, change, state, forced and step in asked)
            self.jobs.append(job)
            self.own[change, step] = job
            provided.add(step)
            queue += self.readers(step)
            made += 1
        return made

    def run(self) -> None:
        """Until nothing can go on: what cannot start ends, then the first that can runs."""
        moved = True
        while moved:
            moved = False
            first: dict[str, ModelJob] = {}
            for job in self.jobs:
                if job.state in {"waiting", "paused"}:
                    first.setdefault(job.step, job)
            for job in [job for job in first.values() if job.state == "waiting"]:
                verdict = self.judge(job)
                if verdict in ENDED:
                    job.state, moved = verdict, True
            if moved:
                continue
            for job in [job for job in first.values() if job.state == "waiting"]:
                if self.judge(job) == "start":
                    self.work(job)
                    moved = True
                    break

    # what follows from it -------------------------------------------------------------------

    def of(self, change: str) -> list[ModelJob]:
        return [job for job in self.jobs if job.change == change]

    def readers(self, repo: str) -> list[str]:
        return [step for step in self.steps if repo in READS[step]]

    def judge(self, job: ModelJob) -> str:
        if job.step not in self.steps:
            return "cancelled"
        verdicts = {self.judge_input(job, repo) for repo in READS[job.step]}
        return next(one for one in ("blocked", "wait", "start") if one in verdicts)

    def judge_input(self, job: ModelJob, repo: str) -> str:
        own = self.own.get((job.change, repo))
        if isinstance(own, ModelJob):
            if own.state in ENDED:
                return "start" if own.state == "done" else "blocked"
            return "wait"
        if own is not None or self.heads[repo] is not None:
            return "start"
        pending = {
            one.step for one in self.jobs if one.state not in ENDED and one.step in self.steps
        }
        return "wait" if repo in pending else "blocked"

    def work(self, job: ModelJob) -> None:
        files = [self.read(job, repo) for repo in READS[job.step]]
        if job.step == "up" and any("!" in text for text in files[0].values()):
            job.state = "failed"
            return
        job.state, job.output = "done", self.made(job.step, files)
        self.heads[job.step] = job.output
        self.make(job.change, self.readers(job.step), {job.step}, again=False)  # new readers

    def read(self, job: ModelJob, repo: str) -> Files:
        own = self.own.get((job.change, repo))
        if isinstance(own, ModelJob):
            return own.output
        return own if own is not None else self.heads[repo] or {}

    def made(self, step: str, files: list[Files]) -> Files:
        if step == "up":
            return {path: text + self.k for path, text in files[0].items()}
        if not all(files):
            return {}
        texts = [[found[path] for path in sorted(found)] for found in files]
        if step == "join":
            return {"/join.txt": "+".join(texts[0])}
        return {"/both.txt": texts[0][0] + "|" + "-".join(texts[1])}


PATHS = st.sampled_from(["/a.txt", "/b.txt", "/c.txt"])
SUBJECTS = st.sampled_from(["p", "p/up", "p/join", "p/both"])


class Orders(RuleBasedStateMachine):
    """Real rows, bytes and threads beside the model."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="clew-orders-")
        self.home = Path(self.directory.name)
        self.runs = self.home / "runs"
        self.runs.touch()
        self.pool = InlinePool(self.home / "scratch")
        self.model = Model()
        self.numbers = count(1)
        self.changes: list[str] = []
        self.allowed = Counter[str]()
        self.lab = self.open()

    def open(self) -> Lab:
        lab = Lab(self.home, self.pool, {})  # another Compute
        lab.sources = ("p/raw", "p/side")
        lab.pipelines._engine._max_jobs = 1
        return lab

    def teardown(self) -> None:
        try:
            self.lab.pipelines.control.cancel("p") if self.waiting() else None
        finally:
            self.lab.close()
            self.pool.close()
            self.directory.cleanup()

    def waiting(self) -> bool:
        return any(job.state not in ENDED for job in self.lab.pipelines.jobs(limit=10_000))

    # rules ----------------------------------------------------------------------------------

    @initialize()
    def define(self) -> None:
        self.apply("1", True)

    @rule(k=st.sampled_from("12"), with_both=st.booleans())
    def apply(self, k: str, with_both: bool) -> None:
        """A pipeline update: other code, a step that goes or comes."""
        model = self.model
        steps = ["up", "join", "both"] if with_both else ["up", "join"]
        self.lab.code(CODE.format(k=k, runs=str(self.runs)))
        known = bool(self.changes)
        new = [
            s for s in steps if not known or s not in model.steps or (s == "up" and k != model.k)
        ]
        inputs = {"up": ("raw/",), "join": ("up",), "both": ("join", "side")}
        change = self.lab.apply(*(self.lab.step(name, *inputs[name]) for name in steps))
        model.k, model.steps = k, steps
        model.make(change, new, set())
        self.changes.append(change)

    @rule(path=PATHS, bad=st.sampled_from(["", "", "", "!"]))
    def put(self, path: str, bad: str) -> None:
        text = f"{path}:{next(self.numbers)}{bad}"
        commit = self.lab.put({path: text})
        self.changes.append(commit.global_id)
        self.model.commit(
            commit.global_id, {"raw": {**(self.model.heads["raw"] or {}), path: text}}
        )

    @precondition(lambda self: self.model.heads["raw"])
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        files = dict(self.model.heads["raw"] or {})
        path = data.draw(st.sampled_from(sorted(files)))
        del files[path]
        commit = self.lab.put({}, deletes=[path])
        self.changes.append(commit.global_id)
        self.model.commit(commit.global_id, {"raw": files})

    @rule()
    def put_side(self) -> None:
        text = f"s{next(self.numbers)}"
        commit = self.lab.put({"/s.txt": text}, repo="p/side")
        self.changes.append(commit.global_id)
        self.model.commit(commit.global_id, {"side": {"/s.txt": text}})

    @rule(path=PATHS)
    def transaction(self, path: str) -> None:
        """One change of two repos: one job for each step."""
        text, side = f"{path}:{next(self.numbers)}", f"s{next(self.numbers)}"
        commits = self.lab.repos.commit_many(
            [
                RepoChange(repo="p/raw", puts={path: text.encode()}),
                RepoChange(repo="p/side", puts={"/s.txt": side.encode()}),
            ]
        )
        self.changes.append(commits[0].global_id)
        raw = {**(self.model.heads["raw"] or {}), path: text}
        self.model.commit(commits[0].global_id, {"raw": raw, "side": {"/s.txt": side}})

    @precondition(lambda self: self.model.heads["raw"] is not None)
    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        """A branch goes on from what it was before."""
        log = [one for one in self.lab.repos.log("p/raw", "main", 10) if one.state == "finished"]
        goal = data.draw(st.sampled_from(log))
        commit = self.lab.repos.move_branch("p/raw", "main", goal.id)
        if commit.id == goal.id:
            return
        store = self.lab.store
        files = {e.path: store.read(e.digest).decode() for e in store.entries(goal.tree)}
        self.changes.append(commit.global_id)
        self.model.commit(commit.global_id, {"raw": files})

    @rule(subject=SUBJECTS)
    def pause(self, subject: str) -> None:
        if not self.names(subject):
            return
        self.lab.pipelines.control.pause(subject)
        self.model.paused.add(subject)
        for job in self.named(subject):
            if job.state == "waiting":
                job.state = "paused"

    @rule(subject=SUBJECTS)
    def resume(self, subject: str) -> None:
        if not self.names(subject):
            return
        paused = [job for job in self.named(subject) if job.state == "paused"]
        lifted = {one for one in self.model.paused if subject in {"p", one}}
        if self.refused(lambda: self.lab.pipelines.control.resume(subject), paused or lifted):
            return
        self.model.paused -= lifted
        for job in paused:
            job.state = "waiting"

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        subject = data.draw(st.sampled_from(["p", "p/up", "p/join", *self.changes]))
        live = [job for job in self.named(subject) if job.state not in ENDED]
        if not self.names(subject) or (not live and not self.model.of(subject)):
            return
        if self.refused(lambda: self.lab.pipelines.control.cancel(subject), live):
            return
        for job in live:
            job.state = "cancelled"

    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        change = data.draw(st.sampled_from(self.changes))
        latest = {job.step: job for job in self.model.of(change)}
        if not latest:
            return
        failed = [job for job in latest.values() if job.state in {"failed", "cancelled"}]
        failed.sort(key=self.model.jobs.index)
        passed = [
            later
            for job in failed
            for later in self.model.jobs[self.model.jobs.index(job) + 1 :]
            if later.step == job.step and later.state in {"waiting", "paused", "done"}
        ]
        if self.refused(
            lambda: self.lab.pipelines.control.retry(change), bool(failed) and not passed
        ):
            return
        self.model.make(change, [job.step for job in failed], set())
        for job in self.model.of(change):
            job.forced |= any(one.forced and one.step == job.step for one in failed)

    @rule(step=st.sampled_from([None, "up", "join"]))
    def force(self, step: str | None) -> None:
        change = new_id()
        wishes = [step] if step else self.model.steps
        made = self.model.make(change, wishes, set(), forced=True)
        request = self.lab.pipelines.request
        if not self.refused(lambda: request("p", step, global_id=change), made > 0):
            self.changes.append(change)

    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        head = self.lab.repos.head("p/up")
        made = [job for job in self.lab.pipelines.jobs(step="up") if head and job.output == head.id]
        done = [d for d in self.lab.pipelines.datums(made[0].id) if d.made_by] if made else []
        if not done:
            return
        datum = data.draw(st.sampled_from(sorted(done, key=lambda one: one.key)))
        job = self.lab.pipelines.control.restart(datum.id)
        self.changes.append(job.global_id)
        self.model.make(job.global_id, ["up"], set())
        with self.lab.db.read() as tx:
            (path, digest) = datum.inputs[0]
            assert path.startswith("p/raw:")
            text = self.lab.store.read(digest).decode()
            assert tx is not None
        self.allowed[text] += 1

    @rule()
    def run(self) -> None:
        before, ran = self.done_rows(), self.ran()
        self.lab.run()
        self.check(before, ran, crashes=0)

    @rule(at=st.integers(0, 25))
    def crash(self, at: int) -> None:
        """The engine is lost at one of its transactions; the next one takes over."""
        before, ran = self.done_rows(), self.ran()
        begin, left = self.lab.db.begin, count(at, -1)

        def failing() -> Tx:
            if next(left) <= 0:
                raise Unavailable("db.unreachable", "The machine is gone.")
            return begin()

        self.lab.db.begin = failing
        with suppress(Unavailable):
            self.lab.run()
            self.lab.db.begin = begin
        with suppress(Unavailable):
            self.lab.pipelines.close()
        self.lab.db.close()
        self.lab = self.open()
        self.lab.snapshot = ""
        self.lab.pipelines.recover()
        self.lab.run()
        self.check(before, ran, crashes=1)

    # checks ---------------------------------------------------------------------------------

    def names(self, subject: str) -> bool:
        """Whether the pipeline has such a step now."""
        return subject.partition("/")[2] in {"", *self.model.steps}

    def named(self, subject: str) -> list[ModelJob]:
        step = subject.partition("/")[2]
        if subject == "p" or step:
            return [job for job in self.model.jobs if step in {"", job.step}]
        return self.model.of(subject)

    @staticmethod
    def refused(act: Any, wanted: object) -> bool:
        """Do it; whether it was refused, which must be exactly where it is not ``wanted``."""
        try:
            act()
        except Conflict:
            assert not wanted
            return True
        assert wanted
        return False

    def done_rows(self) -> Counter[str]:
        """How often each content has been done, by its text (of the step ``up``)."""
        with self.lab.db.read() as tx:
            rows = tx.execute(
                tables.datums.select().where(tables.datums.c.state == "done")
            ).fetchall()
        found = [row.inputs[0] for row in rows if row.inputs[0][0] == "p/raw"]
        return Counter(self.lab.store.read(digest).decode() for _, _, digest in found)

    def ran(self) -> Counter[str]:
        return Counter(line.split(" ", 1)[1] for line in self.runs.read_text().splitlines())

    def check(self, before: Counter[str], ran: Counter[str], crashes: int) -> None:
        self.model.run()
        real = sorted(self.lab.pipelines.jobs(limit=10_000), key=lambda job: self.number(job.id))
        assert [(j.step, j.global_id, j.state) for j in real] == [
            (j.step, j.change, j.state) for j in self.model.jobs
        ]
        for step in READS:
            if self.model.heads[step] is None:
                assert self.head(step) is None
            else:
                assert self.lab.output(step) == self.model.heads[step]
        new, new_rows = self.ran() - ran, self.done_rows() - before
        for text, times in new.items():
            if "!" not in text:
                allowed = new_rows[text] + self.allowed[text] + crashes
                assert times <= allowed, f"{text} ran {times} times"
        self.allowed.clear()
        pending = any(job.state not in {*ENDED, "paused"} for job in self.model.jobs)
        if not any(job.state == "paused" for job in self.model.jobs):
            assert not pending
        assert not self.lab.pipelines.control.is_pending(None)

    def head(self, step: str) -> object:
        try:
            return self.lab.repos.head(f"p/{step}")
        except ClewError:
            return None

    def number(self, job_id: str) -> int:
        with self.lab.db.read() as tx:
            return int(tx.execute(tables.JOB, {"id": job_id}).one().number)


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]


def test_jobs_in_any_order_do_what_the_model_says() -> None:
    short = settings(
        max_examples=6, stateful_step_count=20, deadline=None, suppress_health_check=QUIET
    )
    run_machine(short)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_jobs_in_ten_thousand_steps_of_any_order_do_what_the_model_says() -> None:
    long = settings(
        max_examples=250, stateful_step_count=50, deadline=None, suppress_health_check=QUIET
    )
    run_machine(long)


def run_machine(how: settings) -> None:
    run_state_machine_as_test(Orders, settings=how)
