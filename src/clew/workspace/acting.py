"""What triggers cannot do themselves: run, retrain, roll back, tell; measure commits, ask queries.

Knows the rooms that do it. What is done in a transaction of ours is done once, whatever happens;
what goes outside is done at least once, with the id of the firing to tell a second time by.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clew.base.address import DEFAULT_BRANCH
from clew.base.errors import ClewError, Conflict, Invalid, NotFound
from clew.base.ids import new_id
from clew.base.records import ENDED_STATES, Commit, Job, Revision
from clew.db import Tx
from clew.sources import ask as ask_database
from clew.triggers import Action, Condition, Finish, Firing, Hands
from clew.workspace import late
from clew.workspace.notifying import deliver
from clew.workspace.profiling import can_profile, profile
from clew.workspace.rooms import Rooms
from clew.workspace.staging import take_staged


class Acting:
    """The hands of the triggers of a workspace. ``tick`` is called by one thread at a time.

    What may take long (a notification, a query) is done on threads: while one is at it, its firing
    waits.
    """

    def __init__(self, rooms: Rooms, *, served: bool) -> None:
        self._rooms = rooms
        self._served = served
        self._telling: dict[str, _Telling] = {}
        self._asking: threading.Thread | None = None
        self._hands = Hands(
            actions={
                "run": self._run,
                "retrain": self._retrain,
                "rollback": self._rollback,
                "notify": self._notify,
            },
            measure=self._measure,
            ask=self._ask,
        )

    @property
    def busy(self) -> bool:
        """Whether somebody is being told, or something asked."""
        asking = self._asking is not None and self._asking.is_alive()
        return asking or bool(self._telling)

    def tick(self) -> bool:
        """One turn of the triggers; whether anything was done."""
        return self._rooms.triggers.tick(self._hands)

    def tend(self) -> None:
        """Ask the queries that are due, on a thread."""
        if (self._asking is None or not self._asking.is_alive()) and self._rooms.triggers.polls():
            self._asking = threading.Thread(target=self._poll, name="clew-polls", daemon=True)
            self._asking.start()

    def close(self) -> None:
        """Wait for what is under way."""
        if self._asking is not None:
            self._asking.join()
        for one in self._telling.values():
            one.thread.join()
        self._telling.clear()

    # actions --------------------------------------------------------------------------------

    def _run(self, firing: Firing, action: Action, finish: Finish) -> None:
        """Run a step anew, in the transaction that notes it."""
        rooms = self._rooms
        pipeline = str(action.options["pipeline"]) or firing.pipeline
        change = self._change(firing)
        with rooms.db.begin() as tx:
            jobs = rooms.pipelines.request(
                pipeline,
                str(action.options["step"]) or None,
                global_id=change,
                reason=firing.reason,
                tx=tx,
            )
            self._tie(tx, firing, jobs[:1] if action.options["step"] else jobs)
            names = ", ".join(dict.fromkeys(job.step for job in jobs))
            finish(tx, f"ran {names} of {pipeline}", change)

    def _retrain(self, firing: Firing, action: Action, finish: Finish) -> None:
        """Take in what waits on staging branches; where nothing does, train anew on what is there.

        Where the model is being trained it is left at that: it learns from all that is there.
        """
        rooms = self._rooms
        pipeline, step = self._trained(firing, str(action.options["model"]))
        if self._trains(pipeline, step):
            with rooms.db.begin() as tx:
                finish(tx, f"{step} is being trained already", "")
            return
        change = self._change(firing)
        info = rooms.pipelines.get(pipeline)

        def within(tx: Tx, commits: Sequence[Commit]) -> None:
            self._tie(tx, firing, commits)
            names = ", ".join(commit.repo for commit in commits)
            finish(tx, f"took in what waited in {names}", change)

        moved = take_staged(
            rooms.repos,
            rooms.store,
            [one.repo for one in info.steps if one.kind == "source"],
            branch=DEFAULT_BRANCH,
            global_id=change,
            message=firing.reason,
            within=within,
        )
        if not moved:
            with rooms.db.begin() as tx:
                jobs = rooms.pipelines.request(
                    pipeline, step, global_id=change, reason=firing.reason, tx=tx
                )
                self._tie(tx, firing, jobs[:1])
                finish(tx, f"trains {step} of {pipeline}", change)

    def _rollback(self, firing: Firing, action: Action, finish: Finish) -> None:
        """Give the traffic back, in the transaction that notes it."""
        endpoint = str(action.options["endpoint"])
        with self._rooms.db.begin() as tx:
            revision = self._rooms.serving.rollback(endpoint, reason=firing.reason, tx=tx)
            self._tie(tx, firing, [revision])
            finish(tx, f"{endpoint} is back at revision {revision.number}", "")

    def _notify(self, firing: Firing, action: Action, finish: Finish) -> None:
        """Tell somebody, on a thread; its outcome is noted by a later turn."""
        key = f"{firing.id}/{firing.done}"
        known = self._telling.get(key)
        if known is None:
            secret = self._rooms.secret
            home = self._rooms.settings.home.parent
            self._telling[key] = _Telling(lambda: deliver(firing, action, secret, home))
            return
        if known.thread.is_alive():
            return
        del self._telling[key]
        said = known.result()
        with self._rooms.db.begin() as tx:
            finish(tx, said, "")

    # ----------------------------------------------------------------------------------------

    def _tie(self, tx: Tx, firing: Firing, made: Sequence[Commit | Job | Revision]) -> None:
        """Have the lineage lead from what was started to the firing."""
        for one in made:
            self._rooms.lineage.link(tx, one.id, [(firing.id, "set off")])

    def _change(self, firing: Firing) -> str:
        """The change that what follows belongs to: that of the cause, if nothing ran in it yet."""
        started = self._rooms.pipelines.of_change(firing.global_id)
        return new_id() if started else firing.global_id

    def _trained(self, firing: Firing, model: str) -> tuple[str, str]:
        """Pipeline and training step of a model, by its repo; '' is the only one there is."""
        if "/" in model:
            pipeline, _, step = model.rpartition("/")
            return pipeline, step
        info = self._rooms.pipelines.get(firing.pipeline)
        steps = [one.name for one in info.steps if one.kind == "train"]
        if model in steps:
            return firing.pipeline, model
        if len(steps) != 1 or model:
            raise Invalid(
                "trigger.action",
                f"{firing.pipeline} trains {', '.join(steps) or 'nothing'}, not {model or 'one'}.",
                hint="Name the training step: clew.retrain(model).",
            )
        return firing.pipeline, steps[0]

    def _trains(self, pipeline: str, step: str) -> bool:
        """Whether a job of a training step waits or runs."""
        jobs = self._rooms.pipelines.jobs(pipeline=pipeline, step=step, limit=5)
        return any(job.state not in ENDED_STATES for job in jobs)

    def _measure(self, commit_id: str, names: frozenset[str]) -> Mapping[str, int]:
        return measure(self._rooms, commit_id, names)

    def _ask(self, leaf: Condition, since: Mapping[str, Any] | None) -> Sequence[tuple[Any, ...]]:
        """The rows that a query or a live metric answers."""
        options = leaf.options
        if leaf.kind == "reading":
            endpoint, name = str(options["endpoint"]), str(options["name"])
            return [self._rooms.serving.reading(endpoint, name, since)]
        if options["url"]:
            return ask_database(self._rooms.secret(str(options["url"])), str(options["sql"]))
        found = late.table(self._rooms, str(options["sql"]), None, served=self._served)
        return [tuple(row.values()) for row in found.slice(0, 1000).to_pylist()]

    def _poll(self) -> None:
        try:
            self._rooms.triggers.poll(self._ask)
        except ClewError as error:  # the next turn asks again
            logging.getLogger("clew.triggers").warning("%s: %s", error.code, error)


class _Telling:
    """One delivery on a thread, and what came of it."""

    def __init__(self, act: Callable[[], str]) -> None:
        self._act = act
        self._said = ""
        self._error: Exception | None = None
        self.thread = threading.Thread(target=self._run, name="clew-notify", daemon=True)
        self.thread.start()

    def result(self) -> str:
        """What was done; raises what kept it from that."""
        if self._error is not None:
            raise self._error
        return self._said

    def _run(self) -> None:
        try:
            self._said = self._act()
        except ClewError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - it is raised where the outcome is asked for
            self._error = Conflict("trigger.notify", f"{type(error).__name__}: {error}")


def measure(rooms: Rooms, commit_id: str, names: frozenset[str]) -> Mapping[str, int]:
    """How much a commit has added to its branch: of the files that are new or changed in it."""
    found = dict.fromkeys(names, 0) | ({"commits": 1} if "commits" in names else {})
    if names <= {"commits"}:
        return found
    try:
        commit = rooms.repos.commit_by_id(commit_id)
        parent = rooms.repos.commit_by_id(commit.parent) if commit.parent else None
        changes = [one.new for one in rooms.repos.diff(parent, commit) if one.new is not None]
    except NotFound:  # it was dropped meanwhile: it adds nothing
        return dict.fromkeys(names, 0)
    counted = {"files": len(changes), "bytes": sum(one.size_bytes for one in changes)}
    if "rows" in names:
        counted["rows"] = sum(_rows(rooms, commit, one.path) for one in changes)
    return {name: counted.get(name, found[name]) for name in names}


def _rows(rooms: Rooms, commit: Commit, path: str) -> int:
    if not can_profile(path):
        return 0
    try:
        return int(profile(rooms, commit, path).rows)
    except (Invalid, NotFound):  # its suffix says table, its content does not
        return 0
