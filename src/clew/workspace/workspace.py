"""The embedded workspace: every verb on the files of one directory.

Each verb asks the room that it belongs to; what takes more than that stands in a file of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from clew.base.address import DEFAULT_BRANCH, parse_address
from clew.base.archive import check_sources
from clew.base.errors import Conflict, Invalid, NotReady, Unavailable
from clew.base.ids import new_id
from clew.base.limits import check_limit, check_seq
from clew.base.progress import Progress, unseen
from clew.base.project import Applicable, read_project
from clew.base.records import (
    JOB_STATES,
    Applied,
    Change,
    ChangeStatus,
    Commit,
    Datum,
    DriftReport,
    Endpoint,
    Event,
    Experiment,
    ExperimentDetail,
    ExplainResult,
    Explanation,
    FileInfo,
    Importance,
    Job,
    JobCount,
    ModelVersion,
    PipelineInfo,
    Plan,
    Prediction,
    PredictResult,
    RepoInfo,
    Revision,
    Status,
    Verdict,
)
from clew.base.records.traffic import Rollout
from clew.base.verbs import Source, Watcher
from clew.db import ENGINE_LOCK, Lock
from clew.repos import LogFilter, Scans
from clew.serving import rollout_from
from clew.workspace import asking
from clew.workspace.applying import (
    Wanted,
    apply_files,
    plan_files,
    plan_registered,
    retire,
    run_with,
)
from clew.workspace.arms import deploy_by_hand, deploy_together
from clew.workspace.cards import Cards
from clew.workspace.closed import gone
from clew.workspace.engine import Engine
from clew.workspace.explaining import explain
from clew.workspace.exporting import Exporting
from clew.workspace.feeds import Feeds
from clew.workspace.keeping import Keeping
from clew.workspace.knowing import Knowing
from clew.workspace.naming import Naming
from clew.workspace.pools import Pools
from clew.workspace.predicting import explain_rows, predict
from clew.workspace.putting import Put, is_directory, put
from clew.workspace.reacting import Reacting
from clew.workspace.rooms import Rooms, serving_settings
from clew.workspace.supposing import Supposed
from clew.workspace.tables import Tables
from clew.workspace.traffic import EndpointTraffic
from clew.workspace.trials import Trials
from clew.workspace.versions import Versions
from clew.workspace.work import Work

FOLLOW_S = 0.5
SCANS = "cache/scans"


class Workspace(
    Tables,
    Versions,
    Keeping,
    Feeds,
    Reacting,
    Work,
    Trials,
    Pools,
    Exporting,
    Knowing,
    Cards,
    Naming,
    EndpointTraffic,
):
    """A workspace on files. Thread-safe. Keeps ``clew.base.verbs.Verbs``.

    ``serves`` is set by a server: then the engine runs elsewhere in the process, and :meth:`wait`
    only follows. Without it :meth:`wait` does the work, on the caller's thread.
    """

    def __init__(self, rooms: Rooms, *, author: str = "") -> None:
        self.rooms = rooms
        self._author = author
        self._home = rooms.settings.home
        self.serves = False

    def __repr__(self) -> str:
        return f"<workspace on the files of {self._home}>"

    def close(self) -> None:
        """End the workers and let go of the files. Idempotent."""
        self.rooms.close()
        self.rooms = gone()

    # data -----------------------------------------------------------------------------------

    def create_repo(self, name: str, *, description: str = "") -> RepoInfo:
        """A new source repo."""
        return self.rooms.repos.create(name, kind="source", description=description)

    def repos(self) -> list[RepoInfo]:
        """All repos, by name."""
        return self.rooms.repos.list()

    def put(
        self,
        repo: str,
        files: Mapping[str, Source],
        *,
        branch: str = DEFAULT_BRANCH,
        message: str = "",
        delete: Sequence[str] = (),
        replace: bool = False,
        meta: Mapping[str, str] | None = None,
        progress: Progress = unseen,
    ) -> Commit:
        """Commit files and directories; a branch that is new starts from the head of ``main``."""
        if not files and not delete and not replace:
            raise Invalid(
                "put.nothing",
                "There is nothing to commit: no files, and nothing to delete.",
                hint="Name files or directories: clew put REPO FILES",
            )
        check_sources({path: one for path, one in files.items() if not is_directory(one)})
        self._writable(repo, branch)
        rooms = self.rooms
        asked = Put(
            repo=repo,
            branch=branch,
            files=files,
            delete=delete,
            replace=replace,
            message=message,
            author=self._author,
            meta=meta,
        )
        return put(rooms.repos, rooms.store, Scans(rooms.settings.home / SCANS), asked, progress)

    def read(self, address: str) -> bytes:
        """The content of one file."""
        place = parse_address(address)
        return self.rooms.repos.read(self.rooms.repos.resolve(place), place.path)

    def open_file(self, address: str) -> BinaryIO:
        """One file as a seekable stream."""
        place = parse_address(address)
        return self.rooms.repos.open_file(self.rooms.repos.resolve(place), place.path)

    def get(self, address: str, target: Path | str, *, progress: Progress = unseen) -> list[Path]:
        """Write files to disk."""
        place = parse_address(address)
        repos = self.rooms.repos
        commit = repos.resolve(place)
        return list(repos.export(commit, place.path, Path(target), progress=progress))

    def ls(self, address: str, *, recursive: bool = False) -> list[FileInfo]:
        """Files at an address."""
        place = parse_address(address)
        commit = self.rooms.repos.resolve(place)
        if place.path != "/":
            found = self.rooms.repos.get_file(commit, place.path)  # says what is missing
            if found.kind == "file":
                return [found]
        if recursive:
            return list(self.rooms.repos.entries(commit, place.path))
        return self.rooms.repos.children(commit, place.path)

    def log(
        self,
        repo: str,
        *,
        branch: str = DEFAULT_BRANCH,
        limit: int = 50,
        path: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        author: str = "",
        meta: Mapping[str, str] | None = None,
    ) -> list[Commit]:
        """Commits of a branch, newest first."""
        only = LogFilter(path=path, since=since, until=until, author=author, meta=meta or {})
        return self.rooms.repos.log(repo, branch, check_limit(limit), only=only)

    def diff(self, old: str, new: str) -> list[Change]:
        """Paths that differ."""
        return list(self.rooms.repos.diff(self.commit(old), self.commit(new)))

    # work -----------------------------------------------------------------------------------

    def apply(
        self,
        file: Applicable,
        *,
        message: str = "",
        parameters: Mapping[str, Any] | None = None,
        branch: str = DEFAULT_BRANCH,
    ) -> list[Applied]:
        """Register what a file defines."""
        files, entry = read_project(file)
        return self.apply_files(files, entry, message=message, parameters=parameters, branch=branch)

    def apply_files(
        self,
        files: Mapping[str, bytes],
        entry: str,
        *,
        message: str = "",
        parameters: Mapping[str, Any] | None = None,
        branch: str = DEFAULT_BRANCH,
    ) -> list[Applied]:
        """Register what ``entry`` defines, among the files of its project."""
        wanted = Wanted(entry=entry, parameters=parameters or {}, branch=branch)
        return apply_files(self.rooms, files, wanted, message=message, author=self._author)

    def plan(
        self,
        file: Applicable | None = None,
        *,
        parameters: Mapping[str, Any] | None = None,
        branch: str = DEFAULT_BRANCH,
        put: Mapping[str, Source] | None = None,
        delete: Sequence[str] = (),
        packages: Mapping[str, str] | None = None,
    ) -> list[Plan]:
        """What :meth:`apply` would do, also of what is only supposed."""
        files, entry = ({}, "") if file is None else read_project(file)
        return self.plan_files(
            files,
            entry,
            parameters=parameters,
            branch=branch,
            put=put,
            delete=delete,
            packages=packages,
        )

    def plan_files(
        self,
        files: Mapping[str, bytes],
        entry: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        branch: str = DEFAULT_BRANCH,
        put: Mapping[str, Source] | None = None,
        delete: Sequence[str] = (),
        packages: Mapping[str, str] | None = None,
    ) -> list[Plan]:
        """What :meth:`apply_files` would do, also of what is only supposed."""
        wanted = Wanted(entry=entry, parameters=parameters or {}, branch=branch)
        supposed = Supposed(put=put or {}, delete=delete, packages=packages or {})
        if not entry:
            return plan_registered(self.rooms, wanted, supposed)
        return plan_files(self.rooms, files, wanted, supposed)

    def wait(
        self, global_id: str | None = None, *, watch: Watcher | None = None, timeout_s: float = 0
    ) -> None:
        """Work (or follow the engine that does) until nothing is left of a change, or at all."""
        full = self._change_of(global_id) if global_id else None
        waiting = _Waiting(self.rooms, full, watch, timeout_s)
        with waiting:
            while not waiting.done():
                lock = None if self.serves else self._try_lock()
                if lock is None:
                    waiting.follow(FOLLOW_S)
                    continue
                self._work(lock, waiting)
        waiting.check()

    def _change_of(self, wanted: str) -> str:
        """The global id that is meant: by itself, or by ``repo@ref``."""
        if "@" in wanted or "/" in wanted:
            return self.commit(wanted).global_id
        return self.rooms.lineage.change(wanted)

    def _try_lock(self) -> Lock | None:
        try:
            return self.rooms.db.lock(ENGINE_LOCK, "clew")
        except Conflict:
            return None

    def _work(self, lock: Lock, waiting: _Waiting) -> None:
        """Work until nothing is left, under a lock; a lost one ends it, and the caller looks on."""
        rooms = self.rooms
        try:
            rooms.db.fence(lock)
            lock.on_loss(waiting.stop.set)
            engine = Engine(rooms)
            engine.recover()
            engine.run_until_idle(waiting.done, waiting.stop)
        except Unavailable as error:
            if error.code != "lock.lost":
                raise
        finally:  # nothing of ours runs once another engine may take the lock
            rooms.pipelines.interrupt()
            rooms.db.fence(None)
            lock.release()
            waiting.go_on()

    def pipelines(self) -> list[PipelineInfo]:
        """All pipelines."""
        return self.rooms.pipelines.list()

    def jobs(
        self, *, pipeline: str | None = None, state: str | None = None, limit: int = 100
    ) -> list[Job]:
        """Jobs, newest first."""
        if pipeline is not None:
            self.rooms.pipelines.get(pipeline)  # says which are near
        if state is not None and state not in JOB_STATES:
            raise Invalid(
                "job.state",
                f"{state!r} is not the state of a job.",
                hint=f"Use one of {', '.join(JOB_STATES)}.",
            )
        return self.rooms.pipelines.jobs(pipeline=pipeline, state=state, limit=check_limit(limit))

    def job_counts(self) -> Sequence[JobCount]:
        """How many jobs each step has had in each state; for a server's metrics."""
        return self.rooms.pipelines.counts()

    def job(self, job_id: str) -> Job:
        """One job."""
        return self.rooms.pipelines.job(job_id)

    def datums(self, job_id: str, *, limit: int = 1000) -> list[Datum]:
        """Datums of a job."""
        return self.rooms.pipelines.datums(job_id, limit=check_limit(limit))

    def job_log(self, job_id: str) -> str:
        """What the user's code printed."""
        return self.rooms.pipelines.log(job_id)

    def run(
        self,
        pipeline: str,
        step: str | None = None,
        *,
        reason: str = "",
        priority: int | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> str:
        """Run a step anew; the global id."""
        global_id = new_id()
        if parameters:
            run_with(self.rooms, pipeline, parameters, global_id=global_id, author=self._author)
        if step is not None or not parameters:
            self.rooms.pipelines.request(
                pipeline,
                step,
                global_id=global_id,
                reason=reason or "asked for by hand",
                priority=priority,
            )
        return global_id

    def retire(self, pipeline: str, *, reason: str = "") -> Applied:
        """Take a pipeline out of service; what it made stays."""
        return retire(self.rooms, pipeline, reason=reason, author=self._author)

    def experiments(self, *, limit: int = 50) -> list[Experiment]:
        """Experiments, newest first."""
        return self.rooms.experiments.list(limit=check_limit(limit))

    def experiment(self, experiment_id: str) -> ExperimentDetail:
        """One experiment."""
        return self.rooms.experiments.get(experiment_id)

    # models and endpoints -------------------------------------------------------------------

    def importances(self, experiment_id: str) -> list[Importance]:
        """How much each parameter mattered."""
        return self.rooms.experiments.importances(experiment_id)

    def models(self, model: str | None = None, *, where: str = "") -> list[ModelVersion]:
        """Model versions, newest first."""
        return self.rooms.models.versions(model, where=where)

    def model(self, ref: str) -> ModelVersion:
        """One model version."""
        return self.rooms.models.get(ref)

    def verdict(self, verdict_id: str) -> Verdict:
        """One verdict."""
        return self.rooms.models.verdict(verdict_id)

    def verdicts(self, model: str | None = None) -> list[Verdict]:
        """Verdicts, newest first."""
        return self.rooms.models.verdicts(model)

    def endpoints(self) -> list[Endpoint]:
        """All endpoints."""
        return self.rooms.serving.endpoints()

    def endpoint(self, name: str) -> Endpoint:
        """One endpoint."""
        return self.rooms.serving.endpoint(name)

    def deploy(
        self,
        endpoint: str,
        model_version: str,
        *,
        override_by: str = "",
        override_reason: str = "",
        champion: bool = False,
        rollout: Rollout | Mapping[str, object] | None = None,
    ) -> Revision:
        """Put a model version on an endpoint."""
        rooms = self.rooms
        revision = deploy_by_hand(
            rooms,
            endpoint,
            model_version,
            by=override_by,
            reason=override_reason,
            champion=champion,
            rollout=rollout_from(rollout) if isinstance(rollout, Mapping) else rollout,
        )
        rooms.serving.tick()  # where nobody serves there is nothing to wait for
        return rooms.serving.revision(revision.id)

    def deploy_arms(
        self,
        endpoint: str,
        arms: Mapping[str, float | None] | Sequence[str],
        *,
        rollout: Rollout | Mapping[str, object] | None = None,
        override_by: str = "",
        override_reason: str = "",
    ) -> list[Revision]:
        """Put several versions on an endpoint at once, as arms of one rollout."""
        told: Mapping[str, object] | Rollout = rollout or {"kind": "ab_test"}
        if isinstance(told, Mapping):
            told = rollout_from({"weight": 50, **told} if told.get("kind") == "split" else told)
        by, reason = override_by, override_reason
        return deploy_together(self.rooms, endpoint, arms, told, by=by, reason=reason)

    def rollback(self, endpoint: str, *, reason: str = "") -> Revision:
        """Give the traffic back to the revision before."""
        return self.rooms.serving.rollback(endpoint, reason=reason or "Rolled back by hand.")

    def predict(
        self, endpoint: str, rows: Sequence[Mapping[str, object]] | Sequence[Sequence[float]]
    ) -> PredictResult:
        """Ask an endpoint: the processes that serve it, or a worker where none does."""
        rooms = self.rooms
        return predict(rooms.serving, serving_settings(rooms.settings), endpoint, rows)

    def explain(
        self, endpoint: str, rows: Sequence[Mapping[str, object]] | Sequence[Sequence[float]]
    ) -> ExplainResult:
        """What each input did to the answers for rows."""
        rooms = self.rooms
        return explain_rows(rooms.serving, serving_settings(rooms.settings), endpoint, rows)

    def predictions(self, endpoint: str, *, limit: int = 20) -> list[Prediction]:
        """Logged predictions, newest first."""
        return self.rooms.serving.predictions(endpoint, limit=check_limit(limit))

    def drift(self, endpoint: str | None = None, *, limit: int = 20) -> list[DriftReport]:
        """Drift reports, newest first."""
        if endpoint is not None:
            self.endpoint(endpoint)  # says which there are
        return list(self.rooms.monitoring.reports(endpoint, limit=check_limit(limit)))

    # questions ------------------------------------------------------------------------------

    def status(self) -> Status:
        """The workspace at a glance."""
        return asking.status(self.rooms, self.endpoints())

    def change(self, global_id: str) -> ChangeStatus:
        """All that one change caused."""
        return asking.change(self.rooms, global_id)

    def why(self, subject: str, *, down: bool = False) -> Explanation:
        """Where a thing came from, or what came from it."""
        return explain(self.rooms, subject, down=down)

    def events(self, *, after: int = 0, limit: int = 1000) -> Iterator[Event]:
        """Facts in order."""
        return iter(self.rooms.db.events.after(check_seq(after), limit=check_limit(limit)))


class _Waiting:
    """Somebody waits for a change: when it is done, what to show, when it is too late."""

    def __init__(
        self, rooms: Rooms, global_id: str | None, watch: Watcher | None, timeout_s: float
    ) -> None:
        self._rooms = rooms
        self._global_id = global_id
        self._watch = watch
        self._end = time.monotonic() + timeout_s if timeout_s else None
        self._late = False
        self._seen = 0
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self.stop = threading.Event()

    def __enter__(self) -> _Waiting:
        if self._watch is not None:
            last = self._rooms.db.events.last()
            self._seen = 0 if self._global_id else last
            self._thread = threading.Thread(target=self._show, name="clew-watch", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._rooms.db.events.notify()
            self._thread.join()
            self._pass_on()

    def done(self) -> bool:
        """Whether nothing is left, or time is up."""
        if self._end is not None and time.monotonic() > self._end:
            self._late = True
            self.stop.set()
            return True
        return not asking.pending(self._rooms, self._global_id) and not self._rooms.triggers.waits()

    def go_on(self) -> None:
        """Let another try be, unless it is too late: whoever stopped it was the lock."""
        if not self._late:
            self.stop.clear()

    def check(self) -> None:
        """Raise NotReady ``wait.timeout`` where time was up."""
        if self._late:
            raise NotReady(
                "wait.timeout",
                "There is still work to do, and the time is up.",
                hint="`clew status` says what runs; `clew wait` waits on.",
            )

    def follow(self, timeout_s: float) -> None:
        """Wait for the next event."""
        self._rooms.db.events.wait(self._rooms.db.events.last(), timeout_s)

    def _show(self) -> None:
        while not self._over.is_set():
            self._pass_on()
            self._rooms.db.events.wait(
                max(self._seen, self._rooms.db.events.last()), 0.1, self._over
            )

    def _pass_on(self) -> None:
        assert self._watch is not None
        while found := self._rooms.db.events.after(self._seen, global_id=self._global_id):
            for event in found:
                self._watch(event)
            self._seen = found[-1].seq
