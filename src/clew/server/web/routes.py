"""Which page answers which address.

Thin over the verbs: a page asks a few of them and gives what they say to a template.
"""

from __future__ import annotations

import contextlib
from typing import Any

from fastapi import APIRouter
from fastapi.responses import RedirectResponse, Response

from clew.base.address import Address
from clew.base.errors import ClewError, Invalid, NotFound, Unavailable
from clew.base.records import (
    ENDED_STATES,
    Commit,
    ExperimentDetail,
    Explanation,
    FileDiff,
    FileInfo,
    Importance,
    Job,
    ModelVersion,
    TableProfile,
    Verdict,
)
from clew.base.verbs import Verbs
from clew.server.origin import seen_from
from clew.server.web import comparing, explaining, forms, incoming, modelling, pools, trials
from clew.server.web.changes import summary, timeline
from clew.server.web.charts import curves, parallel
from clew.server.web.graph import BOX_HEIGHT, BOX_WIDTH, draw
from clew.server.web.preview import Preview, can_show, preview
from clew.server.web.searching import bars, contour, history, pareto
from clew.server.web.show import Page, Shown, icon
from clew.server.web.words import href, link_of

router = APIRouter(include_in_schema=False)
router.include_router(forms.router)
router.include_router(trials.router)
router.include_router(incoming.router)
router.include_router(modelling.router)
router.include_router(pools.router)
router.include_router(comparing.router)
router.include_router(explaining.router)
router.add_api_route("/favicon.ico", icon)
_RECENT_CHANGES = 6
_MANY = 1000
_TABLES = (".parquet", ".csv", ".feather", ".arrow", ".ipc", ".jsonl", ".ndjson")


@router.get("/")
def overview(page: Shown) -> Response:
    """What runs, waits and was refused; endpoints; what changed lately."""
    status = page.verbs.status()
    changes = [summary(page.verbs.change(one)) for one in status.global_ids[:_RECENT_CHANGES]]
    return page.show("overview.html", status=status, changes=changes)


# data -------------------------------------------------------------------------------------------


@router.get("/repos")
def repos(page: Shown) -> Response:
    """All repos, by pipeline."""
    return page.show("repos.html", repos=page.verbs.repos())


@router.get("/repos/{name:path}")
def repo(page: Shown, name: str, branch: str = "main") -> Response:
    """A repo with the commits of a branch."""
    info = next((one for one in page.verbs.repos() if one.name == name), None)
    if info is None:
        raise NotFound(
            "repo.unknown", f"There is no repo {name}.", hint="All repos are listed at /repos."
        )
    commits = page.verbs.log(name, branch=branch, limit=100) if branch in info.branches else []
    return page.show(
        "repo.html",
        repo=info,
        branch=branch,
        commits=commits,
        branches=page.verbs.branches(name),
        tags=page.verbs.tags(name),
    )


@router.get("/commits/{ref:path}")
def commit(page: Shown, ref: str, path: str = "/") -> Response:
    """A commit: its files, what it changed, where it came from; or one file of it."""
    found = page.verbs.commit(ref)
    if found.state != "finished":
        return page.show("commit.html", commit=found, files=[], changes=None, path=path, tags=[])
    files = page.verbs.ls(_address(found, path)) if path != "/" else _root(page, found)
    single = _single(page, found, path, files)
    if single is not None:
        shown = _shown(page, found, single)
        changed = _changed(page, found, single)
        return page.show("file.html", commit=found, file=single, changed=changed, **shown)
    changes = None
    if path == "/" and found.parent is not None:
        changes = page.verbs.diff(f"{found.repo}@{found.parent}", f"{found.repo}@{found.id}")
    tags = [tag for tag in page.verbs.tags(found.repo) if tag.commit == found.id]
    return page.show(
        "commit.html", commit=found, files=files, changes=changes, path=path, tags=tags
    )


def _changed(page: Page, commit: Commit, file: FileInfo) -> FileDiff | None:
    """How a file differs from the same path in the parent; None where it does not, or is new."""
    if commit.parent is None or not can_show(file):
        return None
    old, new = f"{commit.repo}@{commit.parent}", f"{commit.repo}@{commit.id}"
    found = page.verbs.compare(old, new, paths=[file.path])
    changed = [one for one in found if one.path == file.path and one.kind == "changed"]
    return changed[0] if changed else None


def _root(page: Page, commit: Commit) -> list[FileInfo]:
    return page.verbs.ls(_address(commit, "/")) if commit.files else []


def _single(page: Page, commit: Commit, path: str, files: list[FileInfo]) -> FileInfo | None:
    """The file that a path names; None where it names a directory."""
    if path == "/":
        return None
    if not files:
        files = page.verbs.ls(_address(commit, path), recursive=True)
    return files[0] if len(files) == 1 and files[0].path == path else None


def _shown(page: Page, commit: Commit, file: FileInfo) -> dict[str, Any]:
    address = _address(commit, file.path)
    told = {"address": address, "profile": _profile(page, file, address)}
    if not can_show(file):
        return told | {"preview": Preview(why_not="The file is too large to show.")}
    return told | {"preview": preview(file.path, page.verbs.read(address))}


def _profile(page: Page, file: FileInfo, address: str) -> TableProfile | None:
    """What a table looks like; None of other files, and of those that cannot be read."""
    if not file.path.lower().endswith(_TABLES):
        return None
    with contextlib.suppress(Invalid):
        return page.verbs.profile(address)
    return None


def _address(commit: Commit, path: str) -> str:
    return str(Address(repo=commit.repo, ref=commit.id, path=path))


# work -------------------------------------------------------------------------------------------


@router.get("/pipelines")
def pipelines(page: Shown) -> Response:
    """All pipelines with their steps and the latest job of each."""
    found = page.verbs.pipelines()
    latest: dict[tuple[str, str], Job] = {}
    for job in page.verbs.jobs(limit=_MANY):
        latest.setdefault((job.pipeline, job.step), job)
    return page.show("pipelines.html", pipelines=found, latest=latest)


@router.get("/jobs")
def jobs(page: Shown, pipeline: str = "", state: str = "") -> Response:
    """Jobs, newest first."""
    found = page.verbs.jobs(pipeline=pipeline or None, state=state or None, limit=200)
    return page.show("jobs.html", jobs=found, pipeline=pipeline, state=state)


@router.get("/jobs/{job_id}")
def job(page: Shown, job_id: str) -> Response:
    """A job with its datums, the evidence of what was refused, and its log."""
    found = page.verbs.job(job_id)
    caused = (
        page.verbs.change(found.global_id)
        if found.kind in {"train", "gate", "determined"}
        else None
    )
    return page.show(
        "job.html",
        job=found,
        experiments=[one for one in caused.experiments if one.job == found.id] if caused else [],
        versions=[one for one in caused.model_versions if one.job == found.id] if caused else [],
        verdicts=caused.verdicts if caused and found.kind == "gate" else (),
        datums=page.verbs.datums(found.id, limit=_MANY),
        log=page.verbs.job_log(found.id),
        why=_why(page, found),
    )


def _why(page: Page, job: Job) -> Explanation | None:
    """Why a job that has ended ran: what differs from the one before, and what set it off."""
    if job.state not in ENDED_STATES:
        return None
    with contextlib.suppress(NotFound):
        return page.verbs.why(job.id)
    return None


@router.get("/experiments")
def experiments(page: Shown) -> Response:
    """Experiments, newest first."""
    return page.show("experiments.html", experiments=page.verbs.experiments(limit=200))


@router.get("/experiments/{experiment_id}")
def experiment(page: Shown, experiment_id: str) -> Response:
    """An experiment: curves, parameters, leaderboard."""
    detail = page.verbs.experiment(experiment_id)
    sign = -1 if detail.experiment.mode == "max" else 1
    board = sorted(
        detail.trials,
        key=lambda t: (
            t.state == "failed",
            bool(t.breaches),
            t.value is None,
            sign * (t.value or 0.0),
            t.number,
        ),
    )
    return page.show(
        "experiment.html",
        detail=detail,
        experiment=detail.experiment,
        board=board,
        curves=curves(detail),
        parallel=parallel(detail),
        **_search_charts(page, detail),
        params=sorted({name for trial in detail.trials for name in trial.params}),
    )


def _search_charts(page: Page, detail: ExperimentDetail) -> dict[str, Any]:
    """Charts of the search as a whole; what mattered is asked for when it is over."""
    shares: list[Importance] = []
    if detail.experiment.state != "running":
        try:
            shares = page.verbs.importances(detail.experiment.id)
        except Unavailable:
            shares = []  # without Optuna there is no such chart
    return {
        "history": history(detail),
        "bars": bars(shares),
        "contour": contour(detail, shares),
        "front": pareto(detail),
    }


# models and endpoints ---------------------------------------------------------------------------


@router.get("/models")
def models(page: Shown, model: str = "") -> Response:
    """Model versions by model, newest first."""
    versions = page.verbs.models(model or None)
    grouped: dict[str, list[ModelVersion]] = {}
    for version in versions:
        grouped.setdefault(version.model, []).append(version)
    return page.show("models.html", grouped=grouped)


@router.get("/models/{ref:path}")
def model(page: Shown, ref: str) -> Response:
    """A model version with its verdicts, or the versions of a model."""
    if "/" in ref and "@" not in ref:
        return models(page, ref)
    version = page.verbs.model(ref)
    verdicts = [
        one for one in page.verbs.verdicts(version.model) if one.model_version == version.id
    ]
    card = page.verbs.card(version.id)
    things = card.things
    names = sorted({*things.metrics.test, *things.metrics.train, *version.metrics})
    return page.show(
        "model.html",
        version=version,
        metrics=names,
        **modelling.shown(things, card.report),
        moves=page.verbs.alias_history(version.model),
        verdicts=[(one, _champion(page.verbs, one)) for one in verdicts],
        endpoints=[one for one in page.verbs.endpoints() if one.model == version.model],
    )


def _champion(verbs: Verbs, verdict: Verdict) -> ModelVersion | None:
    if verdict.champion is None:
        return None
    with contextlib.suppress(NotFound):
        return verbs.model(verdict.champion)
    return None


@router.get("/verdicts/{verdict_id}")
def verdict(page: Shown, verdict_id: str) -> Response:
    """To the model version that was judged."""
    found = page.verbs.verdict(verdict_id)
    return RedirectResponse(f"/models/{found.model_version}#{found.id}", 303)


@router.get("/endpoints")
def endpoints(page: Shown) -> Response:
    """All endpoints."""
    return page.show("endpoints.html", endpoints=page.verbs.endpoints())


@router.get("/endpoints/{name}")
def endpoint(page: Shown, name: str) -> Response:
    """An endpoint: traffic, revisions, latest predictions, drift."""
    found = seen_from(page.request, page.verbs.endpoint(name))
    versions = {one.id: one for one in page.verbs.models(found.model)}
    return page.show(
        "endpoint.html",
        endpoint=found,
        versions=versions,
        sharing=page.verbs.traffic(name),
        predictions=page.verbs.predictions(name, limit=20),
        drift=page.verbs.drift(name, limit=10),
    )


@router.get("/drift/{report_id}")
def drift(page: Shown, report_id: str) -> Response:
    """A drift report, column by column."""
    found = [r for r in page.verbs.drift(limit=_MANY) if r.id.startswith(report_id)]
    if not found:
        raise NotFound(
            "drift.unknown",
            f"There is no drift report {report_id}.",
            hint="The page of each endpoint lists its reports.",
        )
    columns = sorted(found[0].columns, key=lambda c: (not c.drifted, -c.value))
    return page.show("drift.html", report=found[0], columns=columns)


# questions --------------------------------------------------------------------------------------


@router.get("/changes/{global_id}")
def change(page: Shown, global_id: str) -> Response:
    """All that one change caused, in the order of time."""
    found = page.verbs.change(global_id)
    return page.show("change.html", change=found, steps=timeline(found))


@router.get("/why/{subject:path}")
def why(page: Shown, subject: str, down: bool = False) -> Response:
    """Where a thing came from, or what came from it, as a drawing and a list."""
    found = page.verbs.why(subject, down=down)
    return page.show(
        "why.html",
        found=found,
        drawing=draw(found),
        box=(BOX_WIDTH, BOX_HEIGHT),
        asked=subject,
        down=down,
    )


@router.get("/search")
def search(page: Shown, q: str = "") -> Response:
    """To the page of whatever an id, a name or an address names."""
    wanted = q.strip()
    if not wanted:
        return page.show("search.html", wanted="", said=None)
    if any(repo.name == wanted for repo in page.verbs.repos()):
        return RedirectResponse(href("repo", wanted), 303)
    if any(endpoint.name == wanted for endpoint in page.verbs.endpoints()):
        return RedirectResponse(href("endpoint", wanted), 303)
    try:
        return RedirectResponse(href("change", page.verbs.change(wanted).global_id), 303)
    except ClewError:
        return _search_things(page, wanted)


def _search_things(page: Page, wanted: str) -> Response:
    try:
        subject = page.verbs.why(wanted).subject
    except ClewError as error:
        return page.show("search.html", code=404, wanted=wanted, said=error)
    if subject.kind == "file":
        return RedirectResponse(f"/why/{wanted}" if "/" in wanted else link_of(subject), 303)
    return RedirectResponse(href(subject.kind, subject.id), 303)


@router.get("/docs")
def docs(page: Shown) -> Response:
    """The operations of the API, from its own OpenAPI description."""
    described = page.request.app.openapi()
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            entry = {"path": path, "method": method.upper(), "operation": operation}
            groups.setdefault(operation.get("tags", ["other"])[0], []).append(entry)
    return page.show("docs.html", groups=groups, described=described["info"])
