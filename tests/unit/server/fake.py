"""A workspace by hand: every verb, with the records of a believable day. Not a mock of ours: the
protocol is the seam, and this is its smallest keeper."""

import importlib.util
import io
import itertools
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa

from clew.base.clock import now
from clew.base.errors import Conflict, Denied, Invalid, NotFound, NotReady, Unavailable
from clew.base.records import (
    Applied,
    BranchInfo,
    Change,
    ChangeStatus,
    ColumnProfile,
    Datum,
    Event,
    ExplainResult,
    Explanation,
    FileDiff,
    FileInfo,
    Importance,
    JobCount,
    LogEntry,
    LogPage,
    PipelineInfo,
    Plan,
    PlannedDatum,
    PredictResult,
    RepoInfo,
    RowChange,
    Status,
    StepInfo,
    TableDiff,
    TableProfile,
    Tag,
    TextDiff,
)
from clew.base.records.traffic import FeedbackResult, Outcome, Traffic, TrafficArm, TrafficChange
from clew.base.records.trials import TrialDetail


def beside(name):
    """A module of this directory, also where only this file was named."""
    known = f"clew_tests_{name}"
    if known not in sys.modules:
        place = Path(__file__).with_name(f"{name}.py")
        spec = importlib.util.spec_from_file_location(known, place)
        sys.modules[known] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[known])
    return sys.modules[known]


day, incoming = beside("fake_day"), beside("fake_incoming")
fake_cards = beside("fake_cards")
NOW, MAY, JUNE, BAD, P = day.NOW, day.MAY, day.JUNE, day.BAD, day.P
STEPS, ago, ident, commit, job = day.STEPS, day.ago, day.ident, day.commit, day.job


class FakeVerbs(day.Day, incoming.Incoming, beside("fake_pools").FakePools):
    """Keeps `Verbs` and the two verbs of a server; remembers what it was asked to do."""

    def __init__(self, empty=False):
        self.empty = empty
        self.asked = []
        self.no_shap = False
        self.store = {}
        self.busy = threading.Event()  # set: there is work left
        self.lock = threading.Lock()
        self.log_of_events = []
        if not empty:
            self._fill()
            self._fill_incoming(self.commits[4].id, JUNE)

    # data -----------------------------------------------------------------------------------
    def create_repo(self, name, *, description=""):
        if name.endswith("/flights"):
            raise Conflict("repo.exists", f"There is a repo {name} already.", hint="Use it.")
        self.asked.append(("create_repo", name, description))
        return RepoInfo(name=name, kind="source", description=description, created_at=NOW)

    def repos(self):
        return [] if self.empty else self.repo_list

    def put(self, repo, files, *, branch="main", message="", delete=(), replace=False, meta=None):
        if repo == f"{P}/nothing":
            raise NotFound("repo.unknown", f"There is no repo {repo}.", hint="See `clew ls`.")
        held = {
            path: data if isinstance(data, bytes)
            else data.read_bytes() if isinstance(data, Path) else data.read()
            for path, data in files.items()
        }  # fmt: skip
        self.store.update(held)
        self.asked.append(("put", repo, branch, message, sorted(delete), replace))
        return commit(repo, JUNE, 1, files=len(held), message=message)

    def read(self, address):
        repo, _, path = address.partition(":")
        if path not in self.store:
            raise NotFound("file.unknown", f"There is no {path} in {repo}.", hint="See `clew ls`.")
        return self.store[path]

    def open_file(self, address):
        return io.BytesIO(self.read(address))

    def get(self, address, target, *, progress=None):
        path = address.partition(":")[2] or "/"
        if path in self.store:
            place = target / path.rpartition("/")[2] if target.is_dir() else target
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(self.store[path])
            return [place]
        written = []
        for name, data in sorted(self.store.items()):
            if name.startswith(path):
                place = target / name[len(path) :].lstrip("/")
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
                written.append(place)
        if not written:
            raise NotFound("file.unknown", f"There is nothing at {address}.", hint="See `clew ls`.")
        return written

    def ls(self, address, *, recursive=False):
        path = address.partition(":")[2] or "/"
        found = [
            FileInfo(path=name, kind="file", digest=f"file:{ident(name)}", size_bytes=len(data))
            for name, data in sorted(self.store.items())
            if name == path or name.startswith(path.rstrip("/") + "/")
        ]
        if not found:
            raise NotFound("file.unknown", f"There is nothing at {address}.", hint="See `clew ls`.")
        return found

    def branches(self, repo):
        heads = next(info.branches for info in self.repos() if info.name == repo)
        found = {c.id: c for c in self.commits}
        readers = (f"{P}/clean",) if repo.endswith("/flights") else ()
        return [
            BranchInfo(repo=repo, name=name, head=found.get(head), read_by=readers)
            for name, head in heads.items()
        ]

    def tags(self, repo):
        return [
            Tag(repo=repo, name="v1", commit=c.id, at=NOW, message="what the paper used")
            for c in self.commits[:1]
            if c.repo == repo
        ]

    def profile(self, address):
        columns = (
            ColumnProfile(name="dep_delay", type="int64", nulls=3, low="-40", high="1301",
                          distinct=527),
            ColumnProfile(name="carrier", type="string", low="9E", high="YV"),
        )  # fmt: skip
        return TableProfile(
            path=address.partition(":")[2],
            digest="file:00",
            size_bytes=9,
            format="CSV",
            rows=28_243,
            columns=columns,
        )

    def log(self, repo, *, branch="main", limit=50, **_):
        if repo not in {info.name for info in self.repos()}:
            raise NotFound("repo.unknown", f"There is no repo {repo}.", hint="See `clew ls`.")
        return sorted(
            (c for c in self.commits if c.repo == repo), key=lambda c: c.started_at, reverse=True
        )[:limit]

    def commit(self, ref):
        for c in self.commits:
            if c.id.startswith(ref) or ref in {f"{c.repo}@main", f"{c.repo}@{c.id}"}:
                return c
        raise NotFound("commit.unknown", f"There is no commit {ref}.", hint="See `clew log REPO`.")

    def sql(self, query, *, attach=None):
        raise NotImplementedError("the server asks for a file")

    def sql_file(self, query, target):
        if query != "select 1":
            raise Invalid("sql.syntax", f"{query} is no SQL.", hint="Write a SELECT.")
        table = pa.table({"one": [1, 2]})
        with pa.ipc.new_stream(target, table.schema) as stream:
            stream.write_table(table)

    def sql_into(self, query, address, *, attach=None, message=""):
        self.asked.append(("sql_into", query, address, message))
        return self.commits[0]

    def compare(self, old, new, *, paths=(), key=(), limit=10, files=100):
        self.asked.append(("compare", list(paths), list(key), limit, files))
        table = TableDiff(
            old_rows=2, new_rows=3, added=1, removed=0, changed=1, key=tuple(key), columns=(),
            cells={"delay": 1}, numbers=(),
            sample=(
                RowChange(kind="changed", key={"id": 1}, old={"delay": None}, new={"delay": 2.5}),
            ),
        )  # fmt: skip
        text = TextDiff(
            added=1, removed=0, text="--- a\n+++ b\n@@ -1 +1,2 @@\n a\n+<b>\n", cut=False
        )
        info = FileInfo(path="/x.parquet", kind="file", digest="file:a", size_bytes=3)
        return [
            FileDiff(path="/x.parquet", kind="changed", old=info, new=info, table=table),
            FileDiff(path="/notes.txt", kind="changed", old=info, new=info, text=text),
        ]

    def diff(self, old, new):
        if old == "corrupt":
            raise Invalid("address.invalid", "No such address.")
        before = FileInfo(path="/x.parquet", kind="file", digest="file:a", size_bytes=3)
        after = FileInfo(
            path="/2013-06.parquet", kind="file", digest="file:b", size_bytes=1_310_220
        )
        return [
            Change(path="/2013-06.parquet", kind="added", old=None, new=after),
            Change(path="/x.parquet", kind="deleted", old=before, new=None),
        ]

    # work -----------------------------------------------------------------------------------
    def apply(self, file, **_):
        raise AssertionError("a server is asked apply_files")

    def plan(self, file, **_):
        raise AssertionError("a server is asked plan_files")

    def job_counts(self):
        def key(job):
            return job.pipeline, job.step, job.state

        return [
            JobCount(
                pipeline=of[0][0], step=of[0][1], state=of[0][2], jobs=len(of[1]),
                done=sum(job.done for job in of[1]),
                skipped=sum(job.skipped for job in of[1]),
                failed=sum(job.failed for job in of[1]),
            )
            for name, jobs in itertools.groupby(sorted(self.job_list, key=key), key)
            for of in [(name, list(jobs))]
        ]  # fmt: skip

    def apply_files(self, files, entry, *, message="", parameters=None, branch="main"):
        self.asked.append(("apply_files", dict(files), entry, message))
        return [Applied(pipeline=P, version=3, changed=True, global_id=JUNE, notes=("widened",))]

    def plan_files(
        self, files, entry, *, parameters=None, branch="main", put=None, delete=(), packages=None
    ):
        supposed = {place: one.read() for place, one in (put or {}).items()}
        self.asked.append(("plan_files", dict(files), supposed, list(delete), packages or {}))
        datum = PlannedDatum(step="clean", action="skip", inputs=("/a",), reason="as before")
        return [Plan(pipeline=P, new_version=True, datums=(datum,), unknown=("features",))]

    def wait(self, global_id=None, *, watch=None, timeout_s=0):
        if global_id == "nowhere":
            raise NotFound("change.unknown", "No such change.", hint="See `clew status`.")
        end = time.monotonic() + (timeout_s or 60)
        while self.busy.is_set():
            if time.monotonic() > end:
                raise NotReady("wait.timeout", "There is work left.", hint="Wait longer.")
            time.sleep(0.005)

    def happen(self, kind, subject, **data):
        """Record an event, as work in a server does."""
        with self.lock:
            self.log_of_events.append(
                Event(seq=len(self.log_of_events) + 1, at=now(), kind=kind, global_id=JUNE,
                      subject=subject, data=data)
            )  # fmt: skip

    def pipelines(self):
        if self.empty:
            return []
        steps = [
            StepInfo(name=name, kind="source", repo=f"{P}/{name}", inputs=())
            for name in ("flights", "weather")
        ]
        inputs = {"clean": (f"{P}/flights",), "features": (f"{P}/clean", f"{P}/weather"),
                  "model": (f"{P}/features",), "better": (f"{P}/model",)}  # fmt: skip
        steps += [
            StepInfo(name=name, kind=kind, repo=f"{P}/{name}", inputs=inputs[name],
                     per="file" if name == "clean" else "repo", function=f"flights.py:{name}",
                     fingerprint=f"code:{ident(name)}")
            for name, kind in STEPS
        ]  # fmt: skip
        return [PipelineInfo(name=P, version=3, snapshot="node:abc", file="flights.py",
                             steps=tuple(steps), endpoints=(P,), created_at=ago(days=1),
                             global_id=MAY)]  # fmt: skip

    def jobs(self, *, pipeline=None, state=None, limit=100):
        if self.empty:
            return []
        return [
            j for j in self.job_list
            if (pipeline is None or j.pipeline == pipeline) and (state is None or j.state == state)
        ][:limit]  # fmt: skip

    def job(self, job_id):
        return self._one(self.jobs(), job_id, "job")

    def datums(self, job_id, *, limit=1000):
        found = self.job(job_id)
        months = [f"/2013-0{i + 1}.parquet" for i in range(found.total)]
        datums = [
            Datum(id=ident(f"datum{job_id}{m}"), job=job_id, key=f"datum:{ident(m)}",
                  state="done" if found.kind != "step" else "skipped",
                  reason="same input, code and environment as in an earlier job",
                  inputs=((f"{P}/flights:{m}", f"file:{ident(m)}"),), duration_s=0.31,
                  made_by=ident(f"jobclean{MAY}"))
            for m in months
        ]  # fmt: skip
        if found.state == "refused":
            evidence = {
                "expectations": [
                    {"expectation": "expect_column_values_to_be_between", "column": "dep_delay",
                     "failed_rows": 812, "total": 28_000,
                     "examples": [{"row": 17, "dep_delay": 90_210.0, "carrier": "UA"},
                                  {"row": 91, "dep_delay": None, "carrier": "<b>B6</b>"}]},
                    {"expectation": "expect_column_values_to_not_be_null", "column": "carrier",
                     "failed_rows": 40, "total": 28_000,
                     "examples": [{"row": 3, "dep_delay": 2.0, "carrier": None}]},
                ]
            }  # fmt: skip
            datums[-1] = Datum(
                id=ident("bad"), job=job_id, key="datum:bad", state="refused",
                reason="2 expectations failed", inputs=datums[-1].inputs, duration_s=0.2,
                error="dep_delay outside -120..2000 in 812 rows", evidence=evidence,
            )  # fmt: skip
        return datums[:limit]

    def job_log(self, job_id):
        self.job(job_id)
        return "reading 28,243 rows\ndone in 0.3 s\n"

    def retire(self, pipeline, *, reason=""):
        self.asked.append(("retire", pipeline, reason))
        return Applied(pipeline=pipeline, version=4, changed=True, global_id=None)

    def run(self, pipeline, step=None, *, reason="", priority=None, parameters=None):
        self.asked.append(("run", pipeline, step, reason))
        return JUNE

    def _acted(self, act, subject):
        self.asked.append((act, subject))
        return [self.job(subject)]

    def cancel_all(self, subject):
        return self._acted("cancel_all", subject)

    def pause(self, subject):
        return self._acted("pause", subject)

    def resume(self, subject):
        return self._acted("resume", subject)

    def retry(self, subject, *, priority=None):
        return self._acted("retry", subject)

    def restart(self, datum_id):
        self.asked.append(("restart", datum_id))
        return self.job_list[0]

    def logs(self, job_id, *, datum="", after=0, limit=1000, wait_s=0):
        entry = LogEntry(at=ago(minutes=1), datum=datum, text=self.job_log(job_id))
        return LogPage(entries=(entry,), next=after + 1, ended=True)

    def cancel(self, job_id):
        self.asked.append(("cancel", job_id))
        return self.job(job_id)

    def experiments(self, *, limit=50):
        return [] if self.empty else self.experiment_list[:limit]

    def trial(self, trial_id):
        found = self._one(self.detail.trials, trial_id, "trial")
        points = tuple(point for point in self.detail.points if point.trial == found.id)
        return TrialDetail(trial=found, points=points, files=(), usage=(), log="")

    def importances(self, experiment_id):
        self._one(self.experiments(), experiment_id, "experiment")
        shares = {"learning_rate": 0.72, "max_depth": 0.21, "loss": 0.07}
        return [Importance(parameter=name, share=share) for name, share in shares.items()]

    def experiment(self, experiment_id):
        self._one(self.experiments(), experiment_id, "experiment")
        return self.detail

    # models and endpoints -------------------------------------------------------------------
    def models(self, model=None, *, where=""):
        return [] if self.empty else [v for v in self.versions if model in (None, v.model)]

    def model(self, ref):
        for v in self.models():
            if v.id.startswith(ref) or ref in (f"{v.model}@{v.version}",
                                               *(f"{v.model}@{a}" for a in v.aliases)):  # fmt: skip
                return v
        raise NotFound("model.unknown", f"There is no model version {ref}.", hint="`clew ls`.")

    def card(self, ref):
        return fake_cards.card_of(self.model(ref))

    def alias_history(self, model):
        return []

    def compare_runs(self, subjects):
        return fake_cards.comparison_of(self.detail.trials[: len(subjects)])

    def verdict(self, verdict_id):
        return self._one(self.verdicts(), verdict_id, "verdict")

    def verdicts(self, model=None):
        return [] if self.empty else self.verdict_list

    def endpoints(self):
        return [] if self.empty else self.endpoint_list

    def endpoint(self, name):
        for e in self.endpoints():
            if e.name == name:
                return e
        raise NotFound("endpoint.unknown", f"There is no endpoint {name}.", hint="`clew status`.")

    def deploy(
        self,
        endpoint,
        model_version,
        *,
        override_by="",
        override_reason="",
        champion=False,
        rollout=None,
    ):
        version = self.model(model_version)
        if version.state == "refused" and not (override_by and override_reason):
            raise Denied("model.not_blessed", f"{model_version} was refused by its gate.",
                         hint="Deploy it with --override-by and --reason.")  # fmt: skip
        self.asked.append(("deploy", endpoint, model_version, override_by, override_reason))
        return self.endpoint_list[0].revisions[0]

    def deploy_arms(self, endpoint, arms, *, rollout=None, override_by="", override_reason=""):
        self.asked.append(("deploy_arms", endpoint, arms, rollout))
        return [self.endpoint(endpoint).revisions[0]]

    def traffic(self, endpoint):
        found = self.endpoint(endpoint)
        sharing = [one for one in found.revisions if one.traffic]
        arms = tuple(
            TrafficArm(
                revision=one.id, number=one.number, model_version=one.model_version,
                state=one.state, weight=one.traffic, requests=one.requests, errors=one.errors,
                nans=0, p90_ms=1.5,
            )
            for one in sharing
        )  # fmt: skip
        test = {
            "name": "errors", "canary": 0.01, "live": 0.004, "allowed": 0.02, "log_e": -0.3,
            "back_at": 6.9, "within": False, "beyond": False,
        }  # fmt: skip
        evidence = {"reason": "Not told apart yet: errors.", "tests": [test]}
        change = TrafficChange(
            at=ago(hours=1), reason="as good as the live one", evidence=evidence,
            split={one.id: one.traffic for one in sharing},
        )  # fmt: skip
        return Traffic(
            endpoint=endpoint, plan="canary", rollout=found.rollout, state="running",
            since=ago(hours=1), arms=arms, evidence=evidence, changes=(change, change),
        )  # fmt: skip

    def set_traffic(self, endpoint, **shares):
        self.asked.append(("set_traffic", endpoint, shares))
        return self.traffic(endpoint)

    def feedback(self, items, *, endpoint=""):
        self.asked.append(("feedback", list(items), endpoint))
        return FeedbackResult(kept=tuple(item.id for item in items))

    def rollback(self, endpoint, *, reason=""):
        self.asked.append(("rollback", endpoint, reason))
        return self.endpoint_list[0].revisions[1]

    def predict(self, endpoint, rows):
        self.endpoint(endpoint)
        self.asked.append(("predict", list(rows)))
        return PredictResult(
            prediction_id="p" + ident("one"), global_id=JUNE, endpoint=endpoint,
            revision=ident("rev1"), model_version=self.versions[1].id,
            outputs={"probability": [0.25] * len(rows)},
        )  # fmt: skip

    def predictions(self, endpoint, *, limit=20):
        return self.prediction_list[:limit]

    def prediction(self, prediction_id):
        for one in self.prediction_list:
            if one.id == prediction_id:
                return one
        raise NotFound("prediction.unknown", f"There is no prediction {prediction_id}.",
                       hint="clew predictions")  # fmt: skip

    def outcome(self, prediction_id):
        made = self.prediction(prediction_id)
        return Outcome(
            id=made.id, endpoint=made.endpoint, revision=made.revision, arm=made.arm,
            model_version=made.model_version, propensity=made.propensity,
        )  # fmt: skip

    def explain_prediction(self, prediction_id, *, row=0):
        made = self.prediction(prediction_id)
        self.asked.append(("explain_prediction", prediction_id, row))
        if self.no_shap:
            raise Unavailable("endpoint.unavailable",
                              "Explanations need shap, which is not installed where endpoints are "
                              "served.", hint='pip install "clew[explain]"')  # fmt: skip
        did = {f"f{at}": (-1) ** at * 0.3 / (at + 1) for at in range(20)}
        return ExplainResult(
            prediction_id="p" + ident("told"), global_id=JUNE, endpoint=made.endpoint,
            revision=made.revision, model_version=made.model_version, method="tree",
            link="identity", output="probabilities", features=list(did), classes=["no", "yes"],
            attributions=[{name: [-value, value] for name, value in did.items()}],
            base_values=[[0.6, 0.4]],
            values=[[0.6 - sum(did.values()), 0.4 + sum(did.values())]],
        )  # fmt: skip

    def drift(self, endpoint=None, *, limit=20):
        return [] if self.empty else self.drift_list[:limit]

    # questions ------------------------------------------------------------------------------
    def status(self):
        jobs = self.jobs()
        return Status(
            workspace="~/flights/.clew",
            running=tuple(j for j in jobs if j.state == "running"),
            waiting=tuple(j for j in jobs if j.state == "waiting"),
            recent=tuple(j for j in jobs if j.state == "done")[:8],
            refused=tuple(j for j in jobs if j.state == "refused"),
            endpoints=tuple(self.endpoints()), drift=tuple(self.drift()),
            global_ids=() if self.empty else (ident("now"), BAD, JUNE, MAY),
        )  # fmt: skip

    def change(self, global_id):
        known = {ident("now"), BAD, JUNE, MAY}
        found = next((g for g in known if g.startswith(global_id)), None)
        if found is None or self.empty:
            raise NotFound(
                "change.unknown", f"There is no change {global_id}.", hint="`clew status`."
            )

        def mine(things):
            return tuple(t for t in things if t.global_id == found)

        return ChangeStatus(
            global_id=found, commits=mine(self.commits), jobs=mine(self.job_list),
            experiments=mine(self.experiment_list), trials=mine(self.detail.trials),
            model_versions=mine(self.versions), verdicts=mine(self.verdict_list),
            revisions=mine(self.endpoint_list[0].revisions), drift_reports=mine(self.drift_list),
            predictions=49_415 if found == JUNE else 0, events=mine(self.log_of_events),
        )  # fmt: skip

    def why(self, subject, *, down=False):
        nodes, edges = self._lineage()
        node = next((n for n in nodes if subject and n.id.startswith(subject)), None)
        if node is None:
            raise NotFound("subject.unknown", f"Nothing is known by {subject!r}.",
                           hint="Give at least four characters of an id.")  # fmt: skip
        return Explanation(
            subject=node, direction="down" if down else "up", nodes=tuple(nodes),
            edges=tuple(edges),
            sentences=(
                f"Prediction {nodes[0].id[:8]} was answered by revision 2 of {P}.",
                "Revision 2 serves version 2 of late-flights/model, blessed: better by 0.013.",
                "It is trial 4 of a search over 17, trained on 6 months of flights.",
            ),
        )  # fmt: skip

    def events(self, *, after=0, limit=1000):
        with self.lock:
            return iter(self.log_of_events[after : after + limit])

    def close(self):
        self.asked.append(("close",))

    def _one(self, things, given, what):
        for thing in things:
            if given and thing.id.startswith(given):
                return thing
        raise NotFound(f"{what}.unknown", f"There is no {what} {given}.", hint="See `clew status`.")
