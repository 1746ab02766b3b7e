"""What a training step and a gate do when their turn comes: rooms put in a row.

Knows the doors of experiments, models and serving; how each does its part is theirs.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from clew.base.address import DEFAULT_BRANCH
from clew.base.errors import NotReady
from clew.base.ranks import ranks_of
from clew.base.records import Commit, ModelVersion, Prediction, Verdict
from clew.base.records.reports import Around
from clew.base.tracking import TRIAL, Tracking
from clew.db import Tx
from clew.experiments import Distribution, Experiments, SearchDefinition
from clew.models import EvaluationDefinition, GateDefinition, Models, TrainingRun
from clew.pipelines import RunResult, StepDefinition, StepRun
from clew.repos import Repos
from clew.serving import Serving
from clew.workspace import at_training
from clew.workspace.deploying import deploy_version
from clew.workspace.own_environments import own_environment_of

RECORDED = 200
"""So many logged requests of the champion are handed to a gate, to be replayed."""


class TrainRunner:
    """Split → search → package; a candidate version appears with the commit of the model.

    Keeps ``clew.pipelines.Runner``.
    """

    def __init__(
        self,
        experiments: Experiments,
        models: Models,
        warm: Callable[[str], bool] = lambda _: False,
        tracking: Tracking | None = None,
    ) -> None:
        """``warm``: whether the trainings of a change begin with what the last version learned.

        ``tracking``: where runs are logged that trials make.
        """
        self._tracking = tracking or Tracking()
        self._experiments = experiments
        self._models = models
        self._warm = warm

    def run(self, run: StepRun) -> RunResult:
        """Train for one job; takes up the experiment of the same job after a crash."""
        step, job = run.definition, run.job
        evaluation = msgspec.convert(step.options["evaluation"], EvaluationDefinition)
        parameter, features = next(iter(run.inputs.items()))
        own = own_environment_of(step)
        split = self._models.split(
            step.output_repo,
            features,
            evaluation,
            global_id=job.global_id,
            paths=run.paths(parameter),
            branch=step.output_branch,
            cancelled=run.cancelled,
        )
        found = self._experiments.search(
            job=job.id,
            pipeline=job.pipeline.partition("@")[0],  # its checkpoints are beside those of main
            step=job.step,
            global_id=job.global_id,
            definition=msgspec.convert(step.options["search"], SearchDefinition),
            space=msgspec.convert(step.options["space"], dict[str, Distribution]),
            function=step.function,
            snapshot_dir=str(run.snapshot_dir),
            inputs=[{"parameter": parameter, "tree": split.train_tree, "paths": list(split.paths)}],
            provenance=(features.id,),
            initial=self._learned(step.output_repo, job.global_id),
            environment=self._tracking.variables(f"{TRIAL}.{job.id}", f"{job.pipeline}.{job.step}"),
            timeout_s=step.timeout_s,
            memory_bytes=step.memory_bytes,
            program=self._models.program_in(own),
            resources=step.demand(),
            placement=dict(step.policy.placement),
            policy=step.policy.trials,
            pool=step.policy.pool,
            ranks=ranks_of(step.options),
            feasible=step.options.get("feasible"),
            fork=self._experiments.fork_of(job.id),
            priority=job.priority,
            cancelled=run.cancelled,
            progress=lambda total, done: run.progress(done, total),
            parameters=step.parameters,
            allow=step.allow,
            declared=tuple(step.depends),
            heard=run.heard,
        )
        training = TrainingRun(
            model=step.output_repo,
            job=job.id,
            global_id=job.global_id,
            features=features.id,
            experiment=found.experiment,
            trial=found.trial.id,
            params=found.trial.params,
            seed=found.trial.seed,
            function=step.function,
            fingerprint=step.fingerprint,
            metrics=found.metrics,
        )
        package = self._models.package(
            found.artefact,
            split=split,
            evaluation=evaluation,
            run=training,
            snapshot_dir=run.snapshot_dir,
            trained=at_training.trained_of(self._experiments, found.trial.id, step),
            own=own,
            cancelled=run.cancelled,
        )

        def register(tx: Tx, commit: Commit) -> None:
            self._models.create_version(package, commit, tx=tx)

        return RunResult(
            tree=package.tree,
            reason=f"Trial {found.trial.number} is the best of its search.",
            extra={"experiment": found.experiment, "trial": found.trial.id},
            on_finish=register,
        )

    def _learned(self, model: str, global_id: str) -> str:
        """What a warm start begins with: of the champion, else of the last version; '' for none."""
        if not self._warm(global_id):
            return ""
        known = [version for version in self._models.versions(model) if version.trial]
        champion = self._models.champion(model)
        best = champion if champion is not None and champion.trial else next(iter(known), None)
        return self._experiments.learned(best.trial) if best is not None and best.trial else ""


class GateRunner:
    """Judge → verdict; a blessed version becomes the champion and goes on its endpoints.

    Keeps ``clew.pipelines.Runner``. The verdict, the alias and the revisions appear in the one
    transaction that finishes the report.
    """

    def __init__(self, repos: Repos, models: Models, serving: Serving) -> None:
        self._repos = repos
        self._models = models
        self._serving = serving

    def run(self, run: StepRun) -> RunResult:
        """Judge the model version of the input commit."""
        step, job = run.definition, run.job
        version = self._version(step_repo=run.inputs["model"].repo, commit=run.inputs["model"])
        judgement = self._models.judge(
            version.id,
            gate=_gate(step),
            snapshot_dir=run.snapshot_dir,
            job=job.id,
            global_id=job.global_id,
            test_commit=self._test_commit(run, version),
            timeout_s=step.timeout_s,
            cancelled=run.cancelled,
            parameters=step.parameters,
            allow=step.allow,
            declared=tuple(step.depends),
            around=self._around(version.model) if step.options["has_rules"] else None,
        )
        if judgement.undeclared:
            run.heard(judgement.undeclared)

        def record(tx: Tx, commit: Commit) -> None:
            verdict = self._models.record(judgement, commit, tx=tx)
            if verdict.blessed:
                self._deploy(tx, verdict)

        on_trunk = step.output_branch == DEFAULT_BRANCH
        return RunResult(
            tree=judgement.report_tree,
            state="done" if judgement.blessed else "refused",
            reason=judgement.reason,
            extra={"model_version": version.id},
            on_finish=record if on_trunk else None,  # a branch moves no alias and no endpoint
        )

    def _around(self, model: str) -> Around:
        """What endpoints of the model serve, and the newest requests that its champion answered."""
        champion = self._models.champion(model)
        endpoints, recorded, functions = {}, [], {}
        for endpoint in self._serving.of_model(model):
            live = self._serving.live(endpoint)
            if live is None or not live.model_version:  # a graph answers there
                continue
            processing = self._serving.processing(live.id)
            if processing is not None:
                functions[endpoint] = processing
            if processing is None or not processing.inputs:  # else the functions say what is taken
                endpoints[endpoint] = self._models.get(live.model_version).signature
            if champion is not None and live.model_version == champion.id:
                logged = self._serving.predictions(endpoint, RECORDED)
                same = (one for one in logged if processing is None or one.revision == live.id)
                recorded += [one for one in same if _is_of(one, champion)]
        return Around(endpoints=endpoints, recorded=tuple(recorded[:RECORDED]), functions=functions)

    def _version(self, *, step_repo: str, commit: Commit) -> ModelVersion:
        """The version that a commit holds: its own, or of the commit whose tree it repeats."""
        versions = self._models.versions(step_repo)
        for version in versions:
            if version.commit == commit.id:
                return version
        for version in versions:
            if self._repos.commit_by_id(version.commit).tree == commit.tree:
                return version
        return self._models.of_commit(commit.id)  # says that there is none

    def _test_commit(self, run: StepRun, version: ModelVersion) -> str:
        """The rows that the training froze (on a branch they are the branch's), or the newest of
        a test set that the user keeps.
        """
        if frozen := self._models.frozen_for(version):
            return frozen
        test = run.inputs.get("test")
        if test is None:
            raise NotReady(
                "gate.no_test",
                f"There is no test data for {run.job.pipeline}/{run.job.step}.",
                hint="Commit rows to the source that train(test=...) names.",
            )
        return test.id

    def _deploy(self, tx: Tx, verdict: Verdict) -> None:
        version = self._models.get(verdict.model_version, tx=tx)
        for endpoint in self._serving.of_model(version.model, tx=tx):
            deploy_version(
                self._serving,
                self._repos,
                endpoint,
                version,
                global_id=verdict.global_id,
                reason=f"Blessed by verdict {verdict.id}.",
                verdict=verdict.id,
                cause=verdict.id,
                tx=tx,
            )


def _is_of(logged: Prediction, champion: ModelVersion) -> bool:
    """Whether the champion has answered a logged request, with all its inputs."""
    told = all(None not in values for values in logged.inputs.values()) and logged.inputs
    if logged.arm == "explain":
        return False
    return logged.model_version == champion.id and "error" not in logged.outputs and bool(told)


def _gate(step: StepDefinition) -> GateDefinition:
    """The gate of a step; its function is the step's own, whose snapshot is no part of options."""
    gate = msgspec.convert(step.options["gate"], GateDefinition)
    return replace(gate, function=step.function if step.options["has_rules"] else None)
