"""Experiments: run a search for a job, and look at searches.

Knows nothing of pipelines beyond names; the search itself is in ``search.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from clew.base.ranks import Ranks
from clew.base.records import (
    CodeRef,
    Experiment,
    ExperimentDetail,
    Importance,
    SearchPreview,
    Trial,
)
from clew.base.records.pools import PoolInfo
from clew.base.records.trial_policy import TrialPolicy
from clew.compute import Call, Compute
from clew.db import Database
from clew.experiments import tables
from clew.experiments.checkpoints import Checkpoints
from clew.experiments.controlling import Controls
from clew.experiments.crew import Crew, berth_in
from clew.experiments.definitions import SearchDefinition
from clew.experiments.forking import Fork, Forking
from clew.experiments.journal import Journal, Order
from clew.experiments.kept import Kept, one
from clew.experiments.measuring import FEASIBLE
from clew.experiments.paths import CHECKPOINT_DIRECTORY, CHECKPOINT_PATH, MODEL_PATH
from clew.experiments.preview import planned, preview_of
from clew.experiments.priors import Prior, prior_of
from clew.experiments.ranks import Holds, in_ranks, most_ranks, needed
from clew.experiments.samplers import Sampler
from clew.experiments.search import Search
from clew.experiments.shares import Shares
from clew.experiments.slots import Slots
from clew.experiments.spaces import Distribution, Space
from clew.experiments.studies import Told, importances
from clew.lineage import Lineage
from clew.repos import Repos
from clew.store import EMPTY_TREE, Entry, Store

MOST_WEIGHED = 400
"""Importances are weighed by about so many trials, spread evenly over all."""


class SearchResult(Struct, frozen=True, kw_only=True):
    """What a search found.

    ``artefact`` is the digest of a tree with the model that the best trial returned, pickled by
    cloudpickle, at /model.pkl; '' where the function returned nothing. ``metrics`` are those of
    the best trial's last report (without what was not finite).
    """

    experiment: str
    trial: Trial
    artefact: str
    metrics: dict[str, float]


class Experiments(Kept, Checkpoints, Controls, Forking, Slots):
    """Searches over trials of users' functions. Thread-safe; any number of searches may go on."""

    def __init__(
        self, db: Database, repos: Repos, store: Store, lineage: Lineage, compute: Compute
    ) -> None:
        self._db = db
        self._repos = repos
        self._store = store
        self._lineage = lineage
        self._compute = compute
        self._shares = Shares()
        self._looked: list[PoolInfo] = []
        self._importances: dict[str, list[Importance]] = {}

    def search(
        self,
        *,
        job: str,
        pipeline: str,
        step: str,
        global_id: str,
        definition: SearchDefinition,
        space: Space,
        function: CodeRef,
        snapshot_dir: str,
        inputs: Sequence[Mapping[str, Any]],
        provenance: Sequence[str] = (),
        initial: str = "",
        all_warm: bool = False,
        timeout_s: float | None = None,
        memory_bytes: int | None = None,
        program: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        resources: Mapping[str, float] | None = None,
        placement: Mapping[str, str] | None = None,
        policy: TrialPolicy | None = None,
        ranks: Ranks | None = None,
        pool: str = "",
        feasible: Mapping[str, str] | None = None,
        fork: Fork | None = None,
        priority: int = 0,
        cancelled: Callable[[], bool] = lambda: False,
        progress: Callable[[int, int], None] = lambda _total, _done: None,
        parameters: Mapping[str, Any] | None = None,
        allow: Sequence[str] = (),
        declared: Sequence[str] = (),
        heard: Callable[[Sequence[Sequence[str]]], None] = lambda _: None,
        each: int = 1,
        at_most: int = 0,
        metric_optional: bool = False,
    ) -> SearchResult:
        """Search for the best parameters; returns when the search is over.

        A job has one experiment: called again for the same job, after a crash say, the search goes
        on where it stood (one that is done just answers). Trials run as calls on compute, as many
        at a time as it has room for; checkpoints are committed to ``pipeline/step.checkpoints``,
        on a branch for each trial.

        Args:
            job: Id of the job that this is for.
            pipeline: Name of the pipeline.
            step: Name of the step.
            global_id: The change that caused it.
            definition: What kind of search.
            space: Name of a parameter to its distribution.
            function: The training function.
            snapshot_dir: Directory of the project that ``function`` lives in.
            inputs: For each data parameter of the function ``parameter`` (its name), ``tree`` and
                ``paths``, as ``clew.codecs.load_value`` takes them.
            provenance: Ids of the commits that the inputs are from.
            initial: A tree with a checkpoint or an artefact, which ``trial.restore()`` gives in
                trial 0: a warm start. '' for a start from scratch.
            all_warm: It gives it in every trial.
            timeout_s: Seconds after which one run of a trial is stopped (the trial has failed).
            memory_bytes: Bytes of memory above which it is.
            program: How workers are started for trials, as :class:`clew.compute.Call` has it.
            resources: How many slots a trial takes: of processes (``CPU``) and ``GPU``.
            pool: The resource pool whose slots; '' for the default one.
            placement: Labels that the machine must have.
            ranks: How many processes train each trial together; None for one, as a plain call.
            feasible: ``file`` and ``name`` of a function of (params, metrics) that says which
                trials may win; what it gives is reported as the metric ``infeasibility``.
            environment: Variables that are set for the trials; ``{trial}`` is the id of each.
            priority: Of searches that go on at once, one with a higher one has the slots that it
                wants; trials of others pause at their next step, and go on when slots are free.
            fork: What to search in place of ``definition``, ``space`` and ``initial``.
            policy: How trials are run and kept: restarts, checkpoints that stay.
            cancelled: Asked ten times a second: whether to give up.
            progress: Told (steps expected in all, steps done).
            parameters: Plain values that the function gets by name, the same in every trial.
            allow: Reads that need no word, as ``clew.compute.Watch`` takes them.
            declared: Names that keys depend on already, the same way.
            heard: Told, after each run of a trial, what it read undeclared: (kind, name, where).
            each: How many slots a trial takes, where it starts processes of its own.
            at_most: So many trials run at once; 0 for as many as there is room for.
            metric_optional: A trial that ends without ever having reported the metric is done.

        Raises:
            Conflict: ``experiment.cancelled``.
            Invalid: ``experiment.failed`` with the first error where more than the allowed share
                of trials failed or none has a finite value; ``trial.metric_missing``,
                ``trial.arguments``, ``space.invalid``, ``grid.continuous``, and what loading the
                inputs raises.
        """
        if fork is not None:
            definition, space, initial = fork.definition, fork.space, fork.tree or initial
        if feasible and FEASIBLE not in definition.constraints:
            definition = replace(definition, constraints=(*definition.constraints, FEASIBLE))
        space = definition.over(space)
        order = Order(
            job=job,
            pipeline=pipeline,
            step=step,
            global_id=global_id,
            definition=definition,
            space=space,
            trials=planned(definition, space),
            function=function,
            snapshot_dir=str(snapshot_dir),
            inputs=tuple(inputs),
            provenance=tuple(provenance),
            initial=initial,
            all_warm=all_warm,
            timeout_s=timeout_s,
            memory_bytes=memory_bytes,
            program=tuple(program),
            resources={**({"CPU": float(each)} if each > 1 else {}), **(resources or {})},
            placement=placement or {},
            ranks=ranks,
            pool=pool,
            environment=environment or {},
            parameters=parameters or {},
            allow=tuple(allow),
            declared=tuple(declared),
            heard=heard,
            policy=policy or TrialPolicy(),
            feasible=feasible,
            priority=priority,
            start=fork.start if fork is not None else 0,
            seed=fork.seed if fork is not None else None,
            each=each,
            at_most=at_most,
            metric_optional=metric_optional,
        )
        journal = Journal(self._db, self._repos, self._lineage, order)
        journal.open()
        if journal.state != "done":
            self._run(order, journal, cancelled, progress)
        return self._result(journal.id)

    def check_pool(
        self, pool: str, resources: Mapping[str, float], ranks: Ranks | None, space: Space
    ) -> None:
        """Refuse trials that their pool could never hold.

        Raises:
            Invalid: ``pool.unknown``, ``pool.too_small``.
        """
        gpus = 0 if ranks is None or ranks.gpus is None else ranks.gpus * most_ranks(ranks, space)
        self._compute.check(pool, {**({"GPU": float(gpus)} if gpus else {}), **resources})

    def preview(
        self, pipeline: str, step: str, definition: SearchDefinition, space: Space
    ) -> SearchPreview:
        """What a search of a step would cost, by what its last search took.

        Raises:
            Invalid: ``space.invalid``, ``constraint.invalid``, ``grid.continuous``,
                ``search.invalid``, ``space.infeasible``.
        """
        with self._db.read() as tx:
            last = tx.execute(tables.DONE_BEFORE, {"pipeline": pipeline, "step": step}).first()
            found = [] if last is None else tx.execute(tables.TRIALS, {"experiment": last.id}).all()
        steps, busy_s = sum(one.step for one in found), sum(one.busy_s for one in found)
        step_s = busy_s / steps if steps and busy_s else None
        return preview_of(step, definition, definition.over(space), step_s)

    def importances(self, id: str) -> list[Importance]:
        """How much each parameter of a search mattered, the most first; shares of 1.

        By the metric at the first rung, which all trials have in common. Empty where there are
        fewer than four trials with a value, or nothing varies.

        Raises:
            NotFound: ``experiment.unknown``.
            Conflict: ``id.ambiguous``.
            Unavailable: ``sampler.missing`` without Optuna and scikit-learn.
        """
        with self._db.read() as tx:
            row = one(tx, tables.BY_PREFIX, id, "experiment")
            rows = tx.execute(tables.TRIALS, {"experiment": row.id}).all()
        known = self._importances.get(row.id) if row.state == "done" else None
        if known is not None:
            return known
        space = msgspec.convert(row.space, dict[str, Distribution])
        sign = -1.0 if row.definition["mode"] == "max" else 1.0
        told = [
            Told(params=trial.params, state="done", step=1, loss=sign * trial.rungs[0])
            for trial in rows
            if trial.rungs and trial.rungs[0] is not None
        ]
        found = importances(space, told[:: max(1, len(told) // MOST_WEIGHED)])
        weighed = [Importance(parameter=name, share=share) for name, share in found.items()]
        if row.state == "done":
            self._importances[row.id] = weighed
        return weighed

    def get(self, id: str) -> ExperimentDetail:
        """One experiment with its trials and all their points; ``id`` may be a unique prefix.

        Raises:
            NotFound: ``experiment.unknown``.
            Conflict: ``id.ambiguous``.
        """
        with self._db.read() as tx:
            row = one(tx, tables.BY_PREFIX, id, "experiment")
            of = {"experiment": row.id}
            return ExperimentDetail(
                experiment=tables.experiment_of(row),
                trials=tuple(map(tables.trial_of, tx.execute(tables.TRIALS, of))),
                points=tuple(map(tables.point_of, tx.execute(tables.POINTS_OF_EXPERIMENT, of))),
            )

    def together(self, call: Call, ranks: Ranks | None, params: Mapping[str, object]) -> Call:
        """The call of a trial as the ranks of a step carry it out; itself where it has none.

        Raises Invalid ``ranks.invalid``.
        """
        return in_ranks(
            call, ranks, params, holds=self._holds(call.pool), spreads=self._compute.spreads
        )

    def learned(self, trial: str) -> str:
        """The tree of the last checkpoint or the model of a trial, '' where it kept none.

        What ``initial`` of :meth:`search` takes. Raises NotFound ``trial.unknown``.
        """
        with self._db.read() as tx:
            return str(one(tx, tables.TRIAL_BY_PREFIX, trial, "trial").tree)

    def checkpoint_files(self, tree: str) -> list[Entry]:
        """The files of a checkpoint that is a directory, by their paths in it."""
        below = self._store.entries(tree, CHECKPOINT_DIRECTORY) if tree else ()
        return [replace(one, path=one.path.removeprefix(CHECKPOINT_DIRECTORY)) for one in below]

    def artefact(self, tree: str) -> str:
        """A tree of the model alone, out of what a trial kept; '' where there is none."""
        return self._artefact(tree)

    def list(self, *, limit: int = 50) -> list[Experiment]:
        """Experiments, newest first."""
        with self._db.read() as tx:
            return [
                tables.experiment_of(row) for row in tx.execute(tables.NEWEST, {"limit": limit})
            ]

    def of_change(self, global_id: str) -> tuple[tuple[Experiment, ...], tuple[Trial, ...]]:
        """Experiments and trials that a change caused, each in order."""
        of = {"global_id": global_id}
        with self._db.read() as tx:
            return (
                tuple(map(tables.experiment_of, tx.execute(tables.OF_CHANGE, of))),
                tuple(map(tables.trial_of, tx.execute(tables.TRIALS_OF_CHANGE, of))),
            )

    def _run(
        self,
        order: Order,
        journal: Journal,
        cancelled: Callable[[], bool],
        progress: Callable[[int, int], None],
    ) -> None:
        if journal.state != "running":
            journal.reopen()
        most = most_ranks(order.ranks, order.space)
        resources = needed(order.ranks, most, order.resources, self._holds(order.pool))
        crew = Crew(
            self._compute,
            berth_in(self._compute, order.pool, resources, most),
            at_most=order.at_most,
        )
        berth = crew.berth
        seat = self._shares.join(order.priority, crew.size, of=berth.kind, each=berth.each)
        search = Search(
            order,
            journal,
            crew,
            self._sampler(order, journal.prior),
            seat,
            store=self._store.address,
            holds=self._holds(order.pool),
            spreads=self._compute.spreads,
            off=lambda: self._compute.keeps_off,
            excluded=self.tell_excluded,
            cancelled=cancelled,
            progress=progress,
        )
        try:
            search.run()
        finally:
            seat.leave()

    def _holds(self, pool: str) -> Holds:
        return lambda resources, parts: self._compute.room(pool, resources, parts)

    def _sampler(self, order: Order, experiment: str | None) -> Sampler:
        """The sampler of a search, with what it is given of an earlier one."""
        definition, prior = order.definition, Prior()
        if experiment is not None:
            with self._db.read() as tx:
                rows = tx.execute(tables.TRIALS, {"experiment": experiment}).all()
            prior = prior_of(definition, order.space, rows)
        return Sampler(definition, order.space, prior=prior.told, first=prior.first)

    def _result(self, experiment: str) -> SearchResult:
        """From rows alone, so that it is the same after a restart."""
        with self._db.read() as tx:
            id = one(tx, tables.BY_PREFIX, experiment, "experiment").best_trial
            row = one(tx, tables.TRIAL_BY_PREFIX, id, "trial")
            rows = tx.execute(tables.POINTS_OF_TRIAL, {"trial": id}).all()
        return SearchResult(
            experiment=experiment,
            trial=tables.trial_of(row),
            artefact=self._artefact(row.tree),
            metrics=tables.point_of(rows[-1]).metrics if rows else {},
        )

    def _artefact(self, tree: str) -> str:
        """A tree of the model alone, out of the tree of a checkpoint."""
        if not tree:
            return ""
        model = self._store.get(tree, MODEL_PATH) or self._store.get(tree, CHECKPOINT_PATH)
        if model is None:
            return ""
        entry = Entry(path=MODEL_PATH, digest=model.digest, size_bytes=model.size_bytes)
        with self._store.writer() as writer:
            return writer.tree(EMPTY_TREE, [entry])
