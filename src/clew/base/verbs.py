"""What can be done with a workspace, wherever it is: the one list of verbs.

The embedded workspace and the HTTP client both keep this protocol; the command line and the
journeys know nothing else. Every verb raises the errors of ``clew.base.errors``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from clew.base.address import DEFAULT_BRANCH
from clew.base.card_verbs import CardVerbs
from clew.base.export_verbs import ExportVerbs
from clew.base.feed_verbs import FeedVerbs
from clew.base.keeping_verbs import KeepingVerbs
from clew.base.knowing_verbs import KnowingVerbs
from clew.base.model_verbs import ModelVerbs
from clew.base.pool_verbs import PoolVerbs
from clew.base.progress import Progress, unseen
from clew.base.project import Applicable
from clew.base.records import (
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
from clew.base.serving_verbs import ServingVerbs
from clew.base.table_verbs import TableVerbs
from clew.base.trial_verbs import TrialVerbs
from clew.base.trigger_verbs import TriggerVerbs
from clew.base.version_verbs import VersionVerbs
from clew.base.work_verbs import WorkVerbs

Watcher = Callable[[Event], None]
Source = bytes | Path | BinaryIO


class Verbs(
    TableVerbs,
    VersionVerbs,
    KeepingVerbs,
    FeedVerbs,
    TriggerVerbs,
    WorkVerbs,
    TrialVerbs,
    PoolVerbs,
    ExportVerbs,
    KnowingVerbs,
    CardVerbs,
    ModelVerbs,
    ServingVerbs,
    Protocol,
):
    """A workspace. Ids may be shortened to any unique prefix of four characters or more."""

    # data -----------------------------------------------------------------------------------
    def create_repo(self, name: str, *, description: str = "") -> RepoInfo:
        """A new source repo. Raises Conflict ``repo.exists``."""
        ...

    def repos(self) -> list[RepoInfo]:
        """All repos, by name."""
        ...

    def put(
        self,
        repo: str,
        files: Mapping[str, Source],
        *,
        branch: str = "main",
        message: str = "",
        delete: Sequence[str] = (),
        replace: bool = False,
        meta: Mapping[str, str] | None = None,
        progress: Progress = unseen,
    ) -> Commit:
        """Commit files (path in the repo → content) on top of a branch, as one change.

        A Path may be a directory: all files below it go below the path in the repo. ``delete``
        names paths that go; ``replace`` drops everything else. Where the head holds all of this
        already it is returned, and nothing is committed; ``progress`` is told of long work. What
        follows from the change is run by the server, or by :meth:`wait` on an embedded workspace.
        """
        ...

    def read(self, address: str) -> bytes:
        """The content of one file, ``repo@ref:/path``."""
        ...

    def open_file(self, address: str) -> BinaryIO:
        """One file as a seekable stream, for one thread; what is not read is not fetched.

        The ref is resolved now: the stream stays on that commit. Close it after use.
        """
        ...

    def get(self, address: str, target: Path | str, *, progress: Progress = unseen) -> list[Path]:
        """Write a file, or everything below a directory, to ``target``; each file atomically.

        Files of the same names are replaced, others stay; a directory that was not there appears
        whole or not at all. The paths that were written, in order.
        """
        ...

    def ls(self, address: str, *, recursive: bool = False) -> list[FileInfo]:
        """Files and directories at an address, by path."""
        ...

    def log(
        self,
        repo: str,
        *,
        branch: str = "main",
        limit: int = 50,
        path: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        author: str = "",
        meta: Mapping[str, str] | None = None,
    ) -> list[Commit]:
        """Commits of a branch (or of any ref), newest first, refused and aborted ones included.

        The rest chooses among finished ones: that changed ``path`` (a file, a directory, a glob),
        that ended from ``since`` to ``until``, whose author's name holds ``author``, that have this
        metadata ('' for any value).
        """
        ...

    def commit(self, ref: str) -> Commit:
        """The commit that ``repo@ref`` or a commit id names."""
        ...

    def diff(self, old: str, new: str) -> list[Change]:
        """Paths that differ between two addresses of commits."""
        ...

    # work -----------------------------------------------------------------------------------
    def apply(
        self,
        file: Applicable,
        *,
        message: str = "",
        parameters: Mapping[str, Any] | None = None,
        branch: str = DEFAULT_BRANCH,
    ) -> list[Applied]:
        """Register the pipelines that a file defines, with a snapshot of the project around it.

        ``file`` may be a notebook (``.ipynb``); in a notebook it may be the pipeline itself.
        ``parameters`` gives parameters of the pipelines values; the others have their defaults.
        On a ``branch`` the pipeline is ``name@branch``: it reads that branch of repos that have it,
        else what it reads on ``main``, and its outputs go to that branch; those of ``main``,
        aliases and endpoints stay as they are.
        """
        ...

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
        """What :meth:`apply` would run, skip and delete, and why, with the likely cost.

        Without a ``file``: what the pipelines would that are registered on the branch.
        Of what might be besides: ``put`` maps ``repo[@branch]:/path`` to what would be committed
        there (a Path may be a directory), ``delete`` names such places that would go, ``packages``
        has versions of distributions that would be installed (``python`` among them). Nothing of
        it is kept. Raises as :meth:`apply`; Invalid ``plan.place``, ``plan.package``,
        ``plan.file``, Denied ``repo.derived``.
        """
        ...

    def wait(
        self, global_id: str | None = None, *, watch: Watcher | None = None, timeout_s: float = 0
    ) -> None:
        """Return when nothing is left to run (for one change, or at all).

        On an embedded workspace without a server this call does the work. ``watch`` is shown every
        event as it happens. Raises NotReady ``wait.timeout`` after ``timeout_s`` (0: never).
        """
        ...

    def pipelines(self) -> list[PipelineInfo]:
        """All pipelines, by name."""
        ...

    def jobs(
        self, *, pipeline: str | None = None, state: str | None = None, limit: int = 100
    ) -> list[Job]:
        """Jobs, newest first."""
        ...

    def job(self, job_id: str) -> Job:
        """One job."""
        ...

    def datums(self, job_id: str, *, limit: int = 1000) -> list[Datum]:
        """Datums of a job with the reason that each ran or was skipped."""
        ...

    def job_log(self, job_id: str) -> str:
        """What the user's code printed in a job."""
        ...

    def run(
        self,
        pipeline: str,
        step: str | None = None,
        *,
        reason: str = "",
        priority: int | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> str:
        """Run a step anew (all steps without one), although nothing changed; the global id.

        With ``parameters`` the pipeline gets these values until it is applied again, and the steps
        that use them run.

        ``priority`` holds for all that follows, in place of that of the steps.
        """
        ...

    def retire(self, pipeline: str, *, reason: str = "") -> Applied:
        """Take a pipeline out of service: nothing runs for it any more, and its jobs are cancelled.

        Its sources, triggers and monitors go. What it made stays: commits, jobs, models with their
        lineage, and endpoints, which go on serving. To apply its file again brings it back; what
        has not changed is skipped then.

        Raises:
            NotFound: ``pipeline.unknown``.
        """
        ...

    def experiments(self, *, limit: int = 50) -> list[Experiment]:
        """Experiments, newest first."""
        ...

    def experiment(self, experiment_id: str) -> ExperimentDetail:
        """One experiment with its trials and curves."""
        ...

    # models and endpoints -------------------------------------------------------------------
    def importances(self, experiment_id: str) -> list[Importance]:
        """How much each parameter of a search mattered, the most first; shares of 1."""
        ...

    def models(self, model: str | None = None, *, where: str = "") -> list[ModelVersion]:
        """Model versions, newest first, of one model or all.

        ``where`` chooses among them: ``metrics.roc_auc > 0.9 and state = 'blessed'``, with and,
        or, not, brackets, ``in``, ``like``. Raises NotFound ``model.unknown``, Invalid
        ``model.where``.
        """
        ...

    def model(self, ref: str) -> ModelVersion:
        """One version: its id, ``model@3`` or ``model@champion``."""
        ...

    def verdict(self, verdict_id: str) -> Verdict:
        """One verdict with its evidence."""
        ...

    def verdicts(self, model: str | None = None) -> list[Verdict]:
        """Verdicts, newest first."""
        ...

    def endpoints(self) -> list[Endpoint]:
        """All endpoints with their revisions (live ones first) and traffic."""
        ...

    def endpoint(self, name: str) -> Endpoint:
        """One endpoint."""
        ...

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
        """Put a model version on an endpoint. Only a blessed one, or with a name and a reason.

        ``rollout``: how it takes over where not as the endpoint says: ``clew.split(20)``,
        ``clew.shadow()``, or a mapping with its ``kind``. Raises Invalid ``rollout.definition``.
        ``champion``: later versions are compared with it from now on; needs a name and a reason.
        Without it an override leaves the champion where it is. ``graph:NAME`` in place of a version
        puts the graph that the endpoint NAME is on this one. Raises Denied ``model.not_blessed``,
        Invalid ``graph.arm``, ``graph.cycle``, ``endpoint.no_graph``.
        """
        ...

    def deploy_arms(
        self,
        endpoint: str,
        arms: Mapping[str, float | None] | Sequence[str],
        *,
        rollout: Rollout | Mapping[str, object] | None = None,
        override_by: str = "",
        override_reason: str = "",
    ) -> list[Revision]:
        """Put several versions on an endpoint at once, as arms of one rollout; each is a revision.

        ``arms``: version (or ``graph:NAME``) → percent; without percentages all have the same. The
        live revision has the rest; it may be given as ``live``, then all must add up to 100.
        ``rollout``: an A/B test where it is None; ``clew.split(…)``, ``clew.bandit()`` or
        ``clew.shadow()``, whose own weight means nothing. It begins when all are loaded; one that
        cannot be loaded is left out. Raises Invalid ``rollout.arms``, ``traffic.weights``,
        Conflict ``endpoint.no_live``, and as :meth:`deploy`.
        """
        ...

    def rollback(self, endpoint: str, *, reason: str = "") -> Revision:
        """Give all traffic back to the revision before the live one."""
        ...

    def predict(
        self, endpoint: str, rows: Sequence[Mapping[str, object]] | Sequence[Sequence[float]]
    ) -> PredictResult:
        """Ask an endpoint; logged like every prediction.

        ``rows`` may also be a frame of Polars or pandas. Raises Invalid ``predict.rows``.
        """
        ...

    def explain(
        self, endpoint: str, rows: Sequence[Mapping[str, object]] | Sequence[Sequence[float]]
    ) -> ExplainResult:
        """What each input did to the answers for rows (as for :meth:`predict`): SHAP values.

        At most 100 rows at once. Raises Invalid ``predict.rows``; Unavailable
        ``endpoint.unavailable`` where shap is not installed beside the endpoint.
        """
        ...

    def predictions(self, endpoint: str, *, limit: int = 20) -> list[Prediction]:
        """Logged predictions, newest first."""
        ...

    def drift(self, endpoint: str | None = None, *, limit: int = 20) -> list[DriftReport]:
        """Drift reports, newest first."""
        ...

    # questions ------------------------------------------------------------------------------
    def status(self) -> Status:
        """The workspace at a glance."""
        ...

    def change(self, global_id: str) -> ChangeStatus:
        """All that one change caused."""
        ...

    def why(self, subject: str, *, down: bool = False) -> Explanation:
        """Where a thing came from (or, ``down``, what came from it).

        ``subject`` is any id (prediction, revision, model version, verdict, trial, job, datum,
        commit, global id) or an address of a file.
        """
        ...

    def events(self, *, after: int = 0, limit: int = 1000) -> Iterator[Event]:
        """Facts in order, from sequence number ``after`` (exclusive)."""
        ...

    def close(self) -> None:
        """Let go of files, processes and connections."""
        ...
