"""The room of models: what training steps, gates and endpoints ask of it.

Knows no pipeline, search or endpoint. User code and models run in compute workers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from clew.base import clock
from clew.base.errors import Conflict, Invalid, NotFound
from clew.base.ids import new_id
from clew.base.records import Check, Commit, ModelVersion, Signature, Verdict
from clew.compute import Call, Compute
from clew.db import Database, Tx
from clew.lineage import Lineage
from clew.models import late, registry, tables
from clew.models.aliasing import Aliasing
from clew.models.bringing import Bringing
from clew.models.calling import value_of
from clew.models.definitions import EvaluationDefinition, GateDefinition
from clew.models.isolating import Isolating
from clew.models.looking import Looking
from clew.models.records import Judgement, Package, Split, TrainingRun
from clew.models.splitting import Splitting, never
from clew.places import Environments
from clew.repos import Repos
from clew.store import Store

if TYPE_CHECKING:
    from clew.base.records.cards import Trained
    from clew.base.records.environments import OwnEnvironment
    from clew.base.records.reports import Around

GATE_SUFFIX = ".gate"
_BLESSED = frozenset({"blessed", "overridden"})
_WORK = "clew.models.work"


class Models(Isolating, Splitting, Bringing, Looking, Aliasing):
    """Model versions with their verdicts and aliases. Thread-safe.

    A model is named by the repo of its training step, ``pipeline/step``. Its frozen test set is in
    the repo ``pipeline/step.test``, its evaluation reports in ``pipeline/step.gate``.
    """

    def __init__(
        self,
        db: Database,
        repos: Repos,
        store: Store,
        lineage: Lineage,
        compute: Compute,
        *,
        serving: str = "",
        environments: Environments | None = None,
    ) -> None:
        """``serving``: ``module:function`` that answers a v2 request with a model, for replays.

        ``environments``: where models have their own; without it none has one.
        """
        self._serving = serving
        self._environments = environments
        self._db = db
        self._repos = repos
        self._store = store
        self._lineage = lineage
        self._compute = compute

    # making a version -----------------------------------------------------------------------

    def measure(
        self, model: str, trees: tuple[str, str], test_commit: str, target: str
    ) -> tuple[dict[str, float], dict[str, float]]:
        """The metrics of two packaged models (by their trees) on the same test rows.

        Nothing is recorded. Raises what loading a model raises.
        """
        test = self._repos.commit_by_id(test_commit)
        payload = {
            "candidate": trees[1],
            "champion": trees[0],
            "champion_name": model,
            "champion_metrics": {},
            "test": self._test_rows(test),
            "target": target,
            "snapshot_dir": "",
            "function": None,
        }
        found = self._work("judge", payload, model, never)
        return found["champion_metrics"], found["metrics"]

    def package(
        self,
        artefact: str,
        *,
        split: Split,
        evaluation: EvaluationDefinition,
        run: TrainingRun,
        snapshot_dir: str | Path,
        frame: str = "",
        trained: Trained | None = None,
        own: OwnEnvironment | None = None,
        cancelled: Callable[[], bool] = never,
    ) -> Package:
        """The tree of a model version, made of a trial's artefact (a tree with ``/model.pkl``).

        The signature is found by asking the model for test rows. The tree is an MLflow model with
        ``/clew/signature.json``, ``/clew/recipe.json`` (how it is asked), ``/clew/profile.json``
        and ``/clew/predictions.json`` (references for drift), ``/clew/training.json`` and
        ``/clew/example.json`` (rows as a v2 request), the ONNX form with its parity report below
        ``/clew/formats/onnx``, and the nine things that :meth:`things` reads; with an environment
        of its own ``/clew/environment.json``. Nothing is committed here.

        Args:
            artefact: Digest of the tree.
            split: As :meth:`split` gave it.
            evaluation: Target and task.
            run: Where the model came from.
            snapshot_dir: The materialised project; its code is put into the pickle.
            frame: polars, pandas or numpy; '' to see it from the annotation of ``run.function``.
            trained: What is known of the training besides.
            own: The environment that it was trained in, where that is not the server's.
            cancelled: As for :meth:`split`.

        Raises:
            Invalid: ``model.kind``, ``model.features``, ``model.signature``, ``model.classes``,
                ``model.target``, ``model.task``, ``model.none``.
            Unavailable: ``extra.missing`` without MLflow.
        """
        function = run.function
        if not artefact:
            raise Invalid(
                "model.none",
                f"{function.name if function else 'The training function'} returned no model.",
                hint="End it with `return model`, also where trial.checkpoint() keeps something.",
            )
        test = self._repos.commit_by_id(split.test_commit)
        payload = {
            "artefact": artefact,
            "train": {"tree": split.train_tree, "paths": list(split.paths)},
            "test": self._test_rows(test),
            "target": evaluation.target,
            "task": evaluation.task,
            "frame": frame,
            "snapshot_dir": str(snapshot_dir),
            "function": {"file": function.file, "name": function.name} if function else None,
            "trained": msgspec.to_builtins(trained) if trained else {},
            "convert": evaluation.convert,
            "own": msgspec.to_builtins(own) if own else None,
            "training": {
                **msgspec.to_builtins(run),
                "test_commit": test.id,
                "target": evaluation.target,
            },
        }
        program = self.program_in(own)
        found = self._work("package", payload, run.model, cancelled, snapshot_dir, program=program)
        signature = msgspec.convert(found["signature"], Signature)
        return Package(tree=found["tree"], signature=signature, run=run, test_commit=test.id)

    def create_version(
        self, package: Package, commit: Commit | str, *, tx: Tx | None = None
    ) -> ModelVersion:
        """A new version, when the commit with the package's tree is finished. Idempotent."""
        commit_id = commit if isinstance(commit, str) else commit.id
        with self._writing(tx) as tx:
            return registry.add_version(tx, self._lineage, package, commit_id)

    # judging --------------------------------------------------------------------------------

    def judge(
        self,
        version: str,
        *,
        gate: GateDefinition,
        snapshot_dir: str | Path,
        job: str,
        global_id: str,
        test_commit: str | None = None,
        timeout_s: float | None = None,
        cancelled: Callable[[], bool] = never,
        parameters: Mapping[str, Any] | None = None,
        allow: Sequence[str] = (),
        declared: Sequence[str] = (),
        around: Around | None = None,
    ) -> Judgement:
        """Run a version and the champion on the same test rows, then the user's gate, in a worker.

        Nothing is recorded: the report's tree is durable, and :meth:`record` does the rest.

        Args:
            version: Any name of the version.
            gate: Target and rules; without a function every model is blessed.
            snapshot_dir: The materialised project that the gate is in.
            job: Of the gate.
            global_id: Of the change.
            test_commit: The test rows; by default those that were frozen for the version.
            timeout_s: Seconds after which the gate is stopped.
            cancelled: As for :meth:`split`.
            parameters: Plain values that the gate gets by name.
            allow: Reads that need no word.
            declared: Names that its key depends on already.
            around: What endpoints serve, and what they were asked.

        Raises:
            ClewError: what the gate or the model raised (``call.raised``): then nothing is judged.
        """
        candidate, champion = self._pair(version)
        test = self._repos.commit_by_id(test_commit or candidate.test_commit or "")
        function = gate.function
        payload = {
            "candidate": self._tree(candidate),
            "champion": self._tree(champion) if champion else "",
            "champion_name": f"{champion.model} version {champion.version}" if champion else "",
            "champion_metrics": champion.metrics if champion else {},
            "champion_signature": msgspec.to_builtins(champion.signature) if champion else None,
            "test": self._test_rows(test),
            "test_commit": test.id,
            "target": gate.target,
            "wished": {"slices": list(gate.slices), "query": gate.query},
            **(msgspec.to_builtins(around) if around else {}),
            "serving": self._serving,
            "snapshot_dir": str(snapshot_dir),
            "function": {"file": function.file, "name": function.name} if function else None,
            "parameters": dict(parameters or {}),
            "allow": list(allow),
            "declared": list(declared),
        }
        found = self._work("judge", payload, candidate.model, cancelled, snapshot_dir, timeout_s)
        checks = msgspec.convert(found["checks"], tuple[Check, ...])
        return Judgement(
            model_version=candidate.id,
            job=job,
            global_id=global_id,
            blessed=all(check.passed for check in checks),
            checks=checks,
            metrics=found["metrics"],
            champion=champion.id if champion else None,
            champion_metrics=found["champion_metrics"],
            test_commit=test.id,
            report_tree=found["tree"],
            report=found["report"],
            undeclared=tuple((kind, name, where) for kind, name, where in found["undeclared"]),
        )

    def record(
        self, judgement: Judgement, commit: Commit | str | None = None, *, tx: Tx | None = None
    ) -> Verdict:
        """Make a judgement the verdict of its version; if blessed, the champion moves on it.

        All in one transaction. Idempotent for a version and a job. Without ``commit`` the report
        is committed here, to the repo ``<model>.gate``, in the same transaction.

        Raises:
            Conflict: ``champion.moved`` where the model was compared with one that is no longer
                the champion: judge again.
        """
        with self._writing(tx) as tx:
            key = {"model_version": judgement.model_version, "job": judgement.job}
            known = tx.execute(tables.VERDICT_OF_JOB, key).first()
            if known is not None:
                return tables.verdict_of(known)
            version = registry.find(tx, judgement.model_version)
            self._check_champion(tx, version, judgement)
            commit = commit or self._commit_report(tx, version, judgement)
            verdict = Verdict(
                id=new_id(),
                model_version=version.id,
                global_id=judgement.global_id,
                blessed=judgement.blessed,
                checks=judgement.checks,
                metrics=judgement.metrics,
                champion=judgement.champion,
                champion_metrics=judgement.champion_metrics,
                test_commit=judgement.test_commit,
                commit=commit if isinstance(commit, str) else commit.id,
                digest="",
                created_at=clock.now(),
                report=judgement.report,
            )
            state = "blessed" if verdict.blessed else "refused"
            signed = registry.add_verdict(
                tx, self._lineage, verdict, job=judgement.job, state=state
            )
            if verdict.blessed and judgement.champion != version.id:
                self._moved(tx, registry.crowned(version, verdict))
            return signed

    def override(self, version: str, *, by: str, reason: str, champion: bool = False) -> Verdict:
        """Let a version be deployed that its gate refused (or never saw): by name, for a reason.

        The gate's own verdict stays; a new one repeats what it found and says who overrode it. The
        champion, which later versions are compared with, moves only where ``champion`` says so.

        Raises:
            Invalid: ``override.unsigned`` without a name or a reason.
        """
        if not by.strip() or not reason.strip():
            raise Invalid(
                "override.unsigned",
                "A verdict is overridden by a person and for a reason, or not at all.",
                hint="Give both: --by NAME --reason TEXT",
            )
        with self._db.begin() as tx:
            found = registry.find(tx, version)
            before = registry.find_verdict(tx, found.verdict) if found.verdict else None
            verdict = Verdict(
                id=new_id(),
                model_version=found.id,
                global_id=found.global_id,
                blessed=before.blessed if before else False,
                checks=before.checks if before else (),
                metrics=found.metrics,
                champion=before.champion if before else None,
                champion_metrics=before.champion_metrics if before else {},
                test_commit=found.test_commit or "",
                commit=before.commit if before else None,
                digest="",
                created_at=clock.now(),
                overridden_by=by.strip(),
                override_reason=reason.strip(),
                report=before.report if before else "",
            )
            signed = registry.add_verdict(tx, self._lineage, verdict, job="", state="overridden")
            if champion:
                move = registry.crowned(found, signed)
                self._moved(tx, replace(move, moved_by=by.strip(), reason=reason.strip()))
            return signed

    # asking ---------------------------------------------------------------------------------

    def versions(
        self,
        model: str | None = None,
        *,
        global_id: str | None = None,
        limit: int = 1000,
        where: str = "",
    ) -> list[ModelVersion]:
        """Versions, newest first: of one model or all, of one change or all, that fit a filter.

        Raises NotFound ``model.unknown`` for the name of no model, with names that are near;
        Invalid ``model.where``.
        """
        fits = late.filter_of(where) if where else None
        query = tables.VERSIONS if fits else tables.VERSIONS.limit(limit)
        if model is not None:
            query = query.where(tables.model_versions.c.model == model)
        if global_id is not None:
            query = query.where(tables.model_versions.c.global_id == global_id)
        with self._db.read() as tx:
            found = registry.versions(tx, query)
        if model is not None and not found:
            self._check_name(model)
        return [one for one in found if fits is None or fits(one)][:limit]

    def get(self, ref: str, *, tx: Tx | None = None) -> ModelVersion:
        """The version of an id (or its beginning), ``model@3`` or ``model@champion``.

        Raises:
            NotFound: ``model.unknown``.
            Invalid: ``ref.ambiguous``.
        """
        with self._reading(tx) as tx:
            return registry.find(tx, ref)

    def of_commit(self, commit: str, *, tx: Tx | None = None) -> ModelVersion:
        """The version that a commit holds. Raises NotFound ``model.unknown``."""
        with self._reading(tx) as tx:
            found = registry.versions(tx, tables.VERSION_OF_COMMIT, {"commit": commit})
        if not found:
            raise NotFound(
                "model.unknown",
                f"Commit {commit} holds no model version.",
                hint="Give a commit in the repo of a training step.",
            )
        return found[0]

    def champion(self, model: str, *, tx: Tx | None = None) -> ModelVersion | None:
        """The version that the alias ``champion`` stands on; None before the first blessing."""
        with self._reading(tx) as tx:
            return registry.champion_of(tx, model)

    def blessed(self, ref: str) -> bool:
        """Whether a version may be deployed: blessed by its gate, or overridden by a person."""
        return self.get(ref).state in _BLESSED

    def verdict(self, verdict_id: str) -> Verdict:
        """One verdict, by its id or the beginning of it. Raises NotFound ``verdict.unknown``."""
        with self._db.read() as tx:
            return registry.find_verdict(tx, verdict_id)

    def verdicts(
        self, model: str | None = None, *, global_id: str | None = None, limit: int = 1000
    ) -> list[Verdict]:
        """Verdicts, newest first: of one model or all, of one change or all.

        Raises NotFound ``model.unknown`` for the name of no model, with names that are near.
        """
        query = tables.VERDICTS.limit(limit)
        if model is not None:
            query = query.where(tables.verdicts.c.model == model)
        if global_id is not None:
            query = query.where(tables.verdicts.c.global_id == global_id)
        with self._db.read() as tx:
            found = [tables.verdict_of(row) for row in tx.execute(query)]
        if model is not None and not found:
            self._check_name(model)
        return found

    def _check_name(self, model: str) -> None:
        """That a training step has this name, also one that has trained nothing yet."""
        names = [repo.name for repo in self._repos.list() if repo.kind == "model"]
        if model in names:
            return
        near = get_close_matches(model, names, 3, 0.5)
        near += [name for name in names if name.endswith(f"/{model}") and name not in near]
        hint = f"Did you mean {' or '.join(near)}?" if near else "List all: clew models"
        if "@" in model:
            hint = f"That is one version: clew model {model}"
        raise NotFound("model.unknown", f"There is no model {model!r}.", hint=hint)

    # ----------------------------------------------------------------------------------------

    def _pair(self, version: str) -> tuple[ModelVersion, ModelVersion | None]:
        with self._db.read() as tx:
            candidate = registry.find(tx, version)
            return candidate, registry.champion_of(tx, candidate.model)

    def _tree(self, version: ModelVersion) -> str:
        return self._repos.commit_by_id(version.commit).tree

    def _check_champion(self, tx: Tx, version: ModelVersion, judgement: Judgement) -> None:
        champion = registry.champion_of(tx, version.model)
        if (champion.id if champion else None) != judgement.champion:
            raise Conflict(
                "champion.moved",
                f"While {version.model} version {version.version} was judged, the champion became "
                f"{f'version {champion.version}' if champion else 'nobody'}.",
                hint="Judge it again.",
            )

    def _commit_report(self, tx: Tx, version: ModelVersion, judgement: Judgement) -> Commit:
        name = version.model + GATE_SUFFIX
        self._repos.create(name, kind="report", tx=tx, exist_ok=True)
        opened = self._repos.open_commit(
            name,
            global_id=judgement.global_id,
            provenance=[version.commit, judgement.test_commit],
            message=judgement.reason,
            tx=tx,
        )
        return self._repos.finish(opened.id, judgement.report_tree, tx=tx)

    def _work(
        self,
        entry: str,
        payload: dict[str, Any],
        label: str,
        cancelled: Callable[[], bool],
        snapshot_dir: str | Path = "",
        timeout_s: float | None = None,
        program: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """Run one of the entries of ``work.py`` in a worker."""
        call = Call(
            entry=entry if ":" in entry else f"{_WORK}:{entry}",
            payload={**payload, "store": self._store.address},
            label=f"{entry} {label}",
            snapshot_dir=str(snapshot_dir),
            timeout_s=timeout_s,
            program=program,
        )
        return value_of(self._compute, call, cancelled)

    def _writing(self, tx: Tx | None) -> AbstractContextManager[Tx]:
        return self._db.begin() if tx is None else nullcontext(tx)

    def _reading(self, tx: Tx | None) -> AbstractContextManager[Tx]:
        return self._db.read() if tx is None else nullcontext(tx)
