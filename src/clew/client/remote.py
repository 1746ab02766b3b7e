"""The verbs of a workspace that a server holds.

Knows which route answers which verb, and nothing of how HTTP is spoken or work is done.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import msgspec

from clew.base.address import DEFAULT_BRANCH
from clew.base.archive import MEDIA_TYPE, check_sources, pack, supposed_names
from clew.base.progress import Progress, unseen
from clew.base.project import Applicable, read_project
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
from clew.base.rows import plain_rows
from clew.base.verbs import Source, Watcher
from clew.base.walking import expand
from clew.client.cards import RemoteCards
from clew.client.download import write_archive
from clew.client.exporting import RemoteExporting
from clew.client.feeds import RemoteFeeds
from clew.client.following import Follower
from clew.client.keeping import RemoteKeeping
from clew.client.knowing import RemoteKnowing
from clew.client.naming import RemoteNaming
from clew.client.pools import RemotePools
from clew.client.ranges import open_range_reader
from clew.client.serving import RemoteServing
from clew.client.tables import RemoteTables
from clew.client.trials import RemoteTrials
from clew.client.triggers import RemoteTriggers
from clew.client.upload import Upload, is_large
from clew.client.versions import RemoteVersions, meta_texts
from clew.client.wire import Wire
from clew.client.work import RemoteWork


class RemoteWorkspace(
    RemoteTables,
    RemoteVersions,
    RemoteKeeping,
    RemoteFeeds,
    RemoteTriggers,
    RemoteWork,
    RemoteTrials,
    RemotePools,
    RemoteExporting,
    RemoteKnowing,
    RemoteCards,
    RemoteNaming,
    RemoteServing,
):
    """A workspace over HTTP: the protocol ``clew.base.verbs.Verbs``, and its errors.

    Nothing is asked before the first verb. Besides what each verb raises there is Unavailable
    ``server.unreachable``. Thread-safe.
    """

    def __init__(self, url: str, token: str = "", *, near: bool = False, ca: str = "") -> None:
        """``near``: a server that was found beside the workspace, whose files are here. ``ca``: a
        file with authorities that are trusted beside those of the system.
        """
        self._wire = Wire(url, token, near=near, ca=ca)
        self._follower = Follower(self._wire)
        self._url = url

    def __repr__(self) -> str:
        return f"<workspace at {self._url}>"

    # data -----------------------------------------------------------------------------------
    def create_repo(self, name: str, *, description: str = "") -> RepoInfo:
        """A new source repo. Raises Conflict ``repo.exists``."""
        return self._wire.post("/repos", RepoInfo, {"name": name, "description": description})

    def repos(self) -> list[RepoInfo]:
        """All repos, by name."""
        return self._wire.get("/repos", list[RepoInfo])

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
        """Commit files on top of a branch, as one change; they travel as one stream.

        A large one that breaks goes on where it broke, also where the same is put again later.
        """
        files = expand(files)
        check_sources(files)
        where = {
            "repo": repo,
            "branch": branch,
            "message": message,
            "replace": replace,
            "meta": meta_texts(meta),
        }
        if is_large(files):
            return Upload(self._wire, files, delete, progress).commit(**where)
        archive = pack(files, delete=delete, seen=progress)
        return self._wire.upload("/commits", Commit, archive, MEDIA_TYPE, **where)

    def read(self, address: str) -> bytes:
        """The content of one file, ``repo@ref:/path``."""
        return self._wire.get("/content", bytes, address=address)

    def open_file(self, address: str) -> BinaryIO:
        """One file as a seekable stream; only the ranges that are read travel."""
        return open_range_reader(self._wire, address)

    def get(self, address: str, target: Path | str, *, progress: Progress = unseen) -> list[Path]:
        """Write a file, or everything below a directory, to ``target``; each file atomically."""
        with self._wire.stream("/archive", address=address) as answer:
            is_file = answer.headers.get("clew-kind") == "file"
            pieces = answer.iter_raw()
            return write_archive(pieces, Path(target), is_file=is_file, seen=progress)

    def ls(self, address: str, *, recursive: bool = False) -> list[FileInfo]:
        """Files and directories at an address, by path."""
        return self._wire.get("/files", list[FileInfo], address=address, recursive=recursive)

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
        """Commits of a branch (or of any ref), newest first, refused and aborted ones included."""
        return self._wire.get(
            "/commits",
            list[Commit],
            repo=repo,
            branch=branch,
            limit=limit,
            path=path,
            since=since.isoformat() if since else None,
            until=until.isoformat() if until else None,
            author=author,
            meta=meta_texts(meta),
        )

    def commit(self, ref: str) -> Commit:
        """The commit that ``repo@ref`` or a commit id names."""
        return self._wire.get(f"/commits/{quote(ref)}", Commit)

    def diff(self, old: str, new: str) -> list[Change]:
        """Paths that differ between two addresses of commits."""
        return self._wire.get("/diff", list[Change], old=old, new=new)

    # work -----------------------------------------------------------------------------------
    def apply(
        self,
        file: Applicable,
        *,
        message: str = "",
        parameters: Mapping[str, Any] | None = None,
        branch: str = DEFAULT_BRANCH,
    ) -> list[Applied]:
        """Register the pipelines that a file defines, with a snapshot of the project around it."""
        files, entry = read_project(file)
        return self._wire.upload(
            "/apply",
            list[Applied],
            pack(files),
            MEDIA_TYPE,
            entry=entry,
            message=message,
            parameters=_values(parameters),
            branch=branch,
        )

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
        """What :meth:`apply` would run, skip and delete, and why.

        What is supposed to be put travels, and is kept nowhere.
        """
        files, entry = ({}, "") if file is None else read_project(file)
        data = expand(put or {})
        check_sources(data)
        return self._wire.upload(
            "/plan",
            list[Plan],
            pack({**files, **supposed_names(data)}, delete=delete),
            MEDIA_TYPE,
            entry=entry,
            parameters=_values(parameters),
            branch=branch,
            packages=_values(packages),
        )

    def wait(
        self, global_id: str | None = None, *, watch: Watcher | None = None, timeout_s: float = 0
    ) -> None:
        """Return when nothing is left to run (for one change, or at all).

        ``watch`` is shown, in this thread, the events of the change that it has not seen yet and
        then every event as it happens. Raises NotReady ``wait.timeout``.
        """
        if global_id is not None and ("@" in global_id or "/" in global_id):
            global_id = self.commit(global_id).global_id
        self._follower.wait(global_id, watch, timeout_s)

    def pipelines(self) -> list[PipelineInfo]:
        """All pipelines, by name."""
        return self._wire.get("/pipelines", list[PipelineInfo])

    def jobs(
        self, *, pipeline: str | None = None, state: str | None = None, limit: int = 100
    ) -> list[Job]:
        """Jobs, newest first."""
        return self._wire.get("/jobs", list[Job], pipeline=pipeline, state=state, limit=limit)

    def job(self, job_id: str) -> Job:
        """One job."""
        return self._wire.get(f"/jobs/{_part(job_id)}", Job)

    def datums(self, job_id: str, *, limit: int = 1000) -> list[Datum]:
        """Datums of a job with the reason that each ran or was skipped."""
        return self._wire.get(f"/jobs/{_part(job_id)}/datums", list[Datum], limit=limit)

    def job_log(self, job_id: str) -> str:
        """What the user's code printed in a job."""
        return self._wire.get(f"/jobs/{_part(job_id)}/log", str)

    def run(
        self,
        pipeline: str,
        step: str | None = None,
        *,
        reason: str = "",
        priority: int | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> str:
        """Run a step anew (all steps without one), although nothing changed; the global id."""
        body = {
            "step": step,
            "reason": reason,
            "priority": priority,
            "parameters": dict(parameters or {}),
        }
        answer = self._wire.post(f"/pipelines/{_part(pipeline)}/run", dict[str, str], body)
        return answer["global_id"]

    def retire(self, pipeline: str, *, reason: str = "") -> Applied:
        """Take a pipeline out of service; what it made stays."""
        return self._wire.post(f"/pipelines/{_part(pipeline)}/retire", Applied, {"reason": reason})

    def experiments(self, *, limit: int = 50) -> list[Experiment]:
        """Experiments, newest first."""
        return self._wire.get("/experiments", list[Experiment], limit=limit)

    def experiment(self, experiment_id: str) -> ExperimentDetail:
        """One experiment with its trials and curves."""
        return self._wire.get(f"/experiments/{_part(experiment_id)}", ExperimentDetail)

    # models and endpoints -------------------------------------------------------------------
    def importances(self, experiment_id: str) -> list[Importance]:
        """How much each parameter of a search mattered, the most first; shares of 1."""
        return self._wire.get(f"/experiments/{_part(experiment_id)}/importances", list[Importance])

    def models(self, model: str | None = None, *, where: str = "") -> list[ModelVersion]:
        """Model versions, newest first, of one model or all."""
        return self._wire.get("/models", list[ModelVersion], model=model, where=where or None)

    def model(self, ref: str) -> ModelVersion:
        """One version: its id, ``model@3`` or ``model@champion``."""
        return self._wire.get(f"/models/{quote(ref)}", ModelVersion)

    def verdict(self, verdict_id: str) -> Verdict:
        """One verdict with its evidence."""
        return self._wire.get(f"/verdicts/{_part(verdict_id)}", Verdict)

    def verdicts(self, model: str | None = None) -> list[Verdict]:
        """Verdicts, newest first."""
        return self._wire.get("/verdicts", list[Verdict], model=model)

    def endpoints(self) -> list[Endpoint]:
        """All endpoints with their revisions (live ones first) and traffic."""
        return self._wire.get("/endpoints", list[Endpoint])

    def endpoint(self, name: str) -> Endpoint:
        """One endpoint."""
        return self._wire.get(f"/endpoints/{_part(name)}", Endpoint)

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
        """Put a model version on an endpoint. Only a blessed one, or with a name and a reason."""
        body = {
            "model_version": model_version,
            "override_by": override_by,
            "override_reason": override_reason,
            "champion": champion,
            "rollout": None if rollout is None else msgspec.to_builtins(rollout),
        }
        return self._wire.post(f"/endpoints/{_part(endpoint)}/deploy", Revision, body)

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
        body = {
            "arms": dict(arms) if isinstance(arms, Mapping) else list(arms),
            "rollout": None if rollout is None else msgspec.to_builtins(rollout),
            "override_by": override_by,
            "override_reason": override_reason,
        }
        return self._wire.post(f"/endpoints/{_part(endpoint)}/arms", list[Revision], body)

    def rollback(self, endpoint: str, *, reason: str = "") -> Revision:
        """Give all traffic back to the revision before the live one."""
        path = f"/endpoints/{_part(endpoint)}/rollback"
        return self._wire.post(path, Revision, {"reason": reason})

    def predict(
        self, endpoint: str, rows: Sequence[Mapping[str, object]] | Sequence[Sequence[float]]
    ) -> PredictResult:
        """Ask an endpoint; logged like every prediction."""
        path = f"/endpoints/{_part(endpoint)}/predict"
        return self._wire.post(path, PredictResult, {"rows": plain_rows(rows)})

    def explain(
        self, endpoint: str, rows: Sequence[Mapping[str, object]] | Sequence[Sequence[float]]
    ) -> ExplainResult:
        """What each input did to the answers for rows."""
        path = f"/endpoints/{_part(endpoint)}/explain"
        return self._wire.post(path, ExplainResult, {"rows": plain_rows(rows)})

    def predictions(self, endpoint: str, *, limit: int = 20) -> list[Prediction]:
        """Logged predictions, newest first."""
        path = f"/endpoints/{_part(endpoint)}/predictions"
        return self._wire.get(path, list[Prediction], limit=limit)

    def drift(self, endpoint: str | None = None, *, limit: int = 20) -> list[DriftReport]:
        """Drift reports, newest first."""
        return self._wire.get("/drift", list[DriftReport], endpoint=endpoint, limit=limit)

    # questions ------------------------------------------------------------------------------
    def status(self) -> Status:
        """The workspace at a glance."""
        return self._wire.get("/status", Status)

    def change(self, global_id: str) -> ChangeStatus:
        """All that one change caused."""
        return self._wire.get(f"/changes/{_part(global_id)}", ChangeStatus)

    def why(self, subject: str, *, down: bool = False) -> Explanation:
        """Where a thing came from (or, ``down``, what came from it)."""
        return self._wire.get("/why", Explanation, subject=subject, down=down)

    def events(self, *, after: int = 0, limit: int = 1000) -> Iterator[Event]:
        """Facts in order, from sequence number ``after`` (exclusive)."""
        return iter(self._wire.get("/events", list[Event], after=after, limit=limit))

    def close(self) -> None:
        """Let go of the connections."""
        self._wire.close()


def _values(parameters: Mapping[str, Any] | None) -> str:
    """Values of parameters as they travel in a query."""
    return json.dumps(dict(parameters or {}))


def _part(text: str) -> str:
    return quote(text, safe="")
