"""Every verb through the client, a real server and a workspace: what goes in is what comes out."""

import inspect
import io
import math
import threading
from contextlib import closing

import pytest

from clew.base.errors import ClewError, Conflict, Denied, NotFound, NotReady, Unavailable
from clew.base.verbs import Verbs
from clew.client import RemoteWorkspace

P = "late-flights"


@pytest.fixture
def remote(url):
    workspace = RemoteWorkspace(url)
    yield workspace
    workspace.close()


ASKED = {
    "repos": (),
    "log": (f"{P}/flights",),
    "diff": (f"{P}/flights@main^1", f"{P}/flights@main"),
    "pipelines": (),
    "jobs": (),
    "models": (),
    "verdicts": (),
    "endpoints": (),
    "endpoint": (P,),
    "drift": (),
    "status": (),
    "predictions": (P,),
    "experiments": (),
}


@pytest.mark.parametrize("name", ASKED)
def test_a_question_has_the_same_answer_near_and_far(remote, verbs, name):
    assert repr(getattr(remote, name)(*ASKED[name])) == repr(getattr(verbs, name)(*ASKED[name]))


def test_records_asked_by_id_are_the_same(remote, verbs, fake):
    job, version = verbs.job_list[0], verbs.versions[0]
    assert remote.commit(verbs.commits[0].id) == verbs.commits[0]
    assert remote.commit(f"{P}/flights@main") == verbs.commits[0]
    assert remote.job(job.id) == job
    assert remote.datums(job.id) == verbs.datums(job.id)
    assert remote.job_log(job.id) == verbs.job_log(job.id)
    assert remote.model(version.id) == version
    assert remote.model(f"{P}/model@champion") == verbs.versions[1]
    assert remote.verdict(version.verdict) == verbs.verdict_list[0]
    assert remote.change(fake.JUNE) == verbs.change(fake.JUNE)
    assert remote.why("p" + fake.ident("prediction0")) == verbs.why(verbs.prediction_list[0].id)
    assert remote.why(verbs.versions[1].id, down=True).direction == "down"
    assert list(remote.events(after=2, limit=3)) == verbs.log_of_events[2:5]
    assert remote.jobs(state="refused", pipeline=P, limit=1) == verbs.jobs(state="refused")


def test_numbers_that_json_cannot_say_survive(remote, verbs):
    far = remote.experiment(verbs.detail.experiment.id)
    assert far == verbs.detail
    assert far.trials[-1].value == math.inf
    assert math.isnan(remote.predictions(P)[1].inputs["temp"][0])


def test_acts_arrive_with_all_that_was_said(remote, verbs, fake):
    remote.create_repo("late/new", description="dé")
    remote.run(P, "model", reason="because")
    remote.run(P)
    assert remote.retire(P, reason="replaced").version == 4
    job = verbs.job_list[0].id
    remote.cancel(job)
    for act in (remote.cancel_all, remote.pause, remote.resume, remote.retry):
        assert act(job) == [verbs.job_list[0]]
    assert remote.restart("datum") == verbs.job_list[0]
    assert remote.logs(job, datum="d", after=3).next == 4
    remote.deploy(P, verbs.versions[0].id, override_by="ada", override_reason="a test")
    remote.rollback(P, reason="too slow")
    remote.predict(P, [{"distance": 3, "carrier": "UA"}])
    remote.predict(P, [[1.0, 2.0]])
    assert verbs.asked == [
        ("create_repo", "late/new", "dé"),
        ("run", P, "model", "because"),
        ("run", P, None, ""),
        ("retire", P, "replaced"),
        ("cancel", job),
        ("cancel_all", job),
        ("pause", job),
        ("resume", job),
        ("retry", job),
        ("restart", "datum"),
        ("deploy", P, verbs.versions[0].id, "ada", "a test"),
        ("rollback", P, "too slow"),
        ("predict", [{"distance": 3, "carrier": "UA"}]),
        ("predict", [[1.0, 2.0]]),
    ]


def test_no_verb_is_missing(remote):
    for name, verb in inspect.getmembers(Verbs, inspect.isfunction):
        if not name.startswith("_"):
            mine = inspect.signature(getattr(RemoteWorkspace, name))
            assert mine == inspect.signature(verb), name


def test_a_file_is_read_from_any_place(remote, verbs):
    verbs.store["/large"] = bytes(range(251)) * 10_000
    with remote.open_file(f"{P}/flights:/large") as file:
        assert file.seek(-3, 2) == 251 * 10_000 - 3
        assert file.read() == bytes([248, 249, 250])
        file.seek(1_000_003)
        assert file.read(1_000_000) == verbs.store["/large"][1_000_003:2_000_003]
        file.seek(251 * 10_000 + 5)
        assert file.read(1) == b""
    with pytest.raises(NotFound) as raised:
        remote.open_file(f"{P}/flights:/none")
    assert raised.value.code == "file.unknown"


def test_tables_and_comparisons_arrive_as_they_are(remote, verbs):
    assert remote.sql("select 1").to_pydict() == {"one": [1, 2]}
    with pytest.raises(ClewError) as raised:
        remote.sql("selct")
    assert raised.value.code == "sql.syntax"
    with pytest.raises(Denied) as denied:
        remote.sql("select 1", attach={"here": "/etc/passwd"})
    assert denied.value.code == "sql.attach_denied"
    assert remote.sql_into("select 1", "a/b:/x.csv", message="é") == verbs.commits[0]
    assert verbs.asked[-1] == ("sql_into", "select 1", "a/b:/x.csv", "é")
    far = remote.compare("a/b@x", "a/b@y", paths=["/p", "/q"], key=["id"], limit=3, files=7)
    assert verbs.asked[-1] == ("compare", ["/p", "/q"], ["id"], 3, 7)
    assert far == verbs.compare("a/b@x", "a/b@y", key=["id"])


def test_files_of_every_kind_of_source_arrive_as_they_are(remote, verbs, tmp_path):
    (tmp_path / "here").write_bytes(b"path" * 1000)
    files = {
        "/a b/ü.bin": b"bytes",
        "/path": tmp_path / "here",
        "/stream": io.BytesIO(b"stream"),
        "/empty": b"",
        "/" + "long/" * 60 + "name": b"deep",
        "/large": bytes(range(256)) * 40_000,
    }
    done = remote.put(f"{P}/flights", files, message="m", delete=["/old", "/ö"], replace=True)
    assert done.files == len(files)
    assert verbs.asked == [("put", f"{P}/flights", "main", "m", ["/old", "/ö"], True)]
    assert verbs.store["/stream"] == b"stream"
    assert remote.read(f"{P}/flights@main:/a b/ü.bin") == b"bytes"
    assert remote.read(f"{P}/flights@main:/large") == files["/large"]
    assert [info.path for info in remote.ls(f"{P}/flights:/")] == sorted(files)
    written = remote.get(f"{P}/flights@main", tmp_path / "out")
    assert len(written) == len(files)
    assert (tmp_path / "out" / "a b" / "ü.bin").read_bytes() == b"bytes"
    assert (tmp_path / "out" / "large").read_bytes() == files["/large"]


def test_one_file_lands_at_the_target_or_in_the_directory(remote, tmp_path):
    remote.put(f"{P}/flights", {"/deep/a.txt": b"one"})
    assert remote.get(f"{P}/flights:/deep/a.txt", tmp_path / "b.txt") == [tmp_path / "b.txt"]
    assert remote.get(f"{P}/flights:/deep/a.txt", tmp_path) == [tmp_path / "a.txt"]
    assert (tmp_path / "b.txt").read_bytes() == (tmp_path / "a.txt").read_bytes() == b"one"


def test_ten_thousand_small_files_are_one_commit(remote, verbs):
    files = {f"/{i % 100}/{i}.txt": str(i).encode() for i in range(10_000)}
    assert remote.put(f"{P}/flights", files).files == 10_000
    assert verbs.store["/99/9999.txt"] == b"9999"


def test_the_project_around_a_file_travels_with_it(remote, verbs, fake, tmp_path):
    (tmp_path / "flights.py").write_text("import clew")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "clean.py").write_text("x = 1")
    (tmp_path / "data.parquet").write_bytes(b"PAR1")
    (applied,) = remote.apply(tmp_path / "flights.py", message="new")
    assert applied.global_id == fake.JUNE
    files = {"flights.py": b"import clew", "lib/clean.py": b"x = 1"}
    assert verbs.asked == [("apply_files", files, "flights.py", "new")]
    assert remote.plan(tmp_path / "flights.py") == verbs.plan_files(files, "flights.py")


def test_what_is_supposed_travels_with_a_plan_and_stays_out_of_the_project(remote, verbs, tmp_path):
    (tmp_path / "flights.py").write_text("import clew")
    below = tmp_path / "july"
    below.mkdir()
    (below / "a.csv").write_bytes(b"1")
    (below / "b.csv").write_bytes(b"22")
    remote.plan(
        tmp_path / "flights.py",
        put={f"{P}/flights:/july": below, f"{P}/flights@try:/c": b"3"},
        delete=[f"{P}/flights:/june.csv"],
        packages={"polars": "9.9"},
    )
    put = {
        f"{P}/flights:/july/a.csv": b"1",
        f"{P}/flights:/july/b.csv": b"22",
        f"{P}/flights@try:/c": b"3",
    }
    files = {"flights.py": b"import clew"}
    gone = [f"{P}/flights:/june.csv"]
    assert verbs.asked[-1] == ("plan_files", files, put, gone, {"polars": "9.9"})
    remote.plan(put={"late/new:/a": b"1"})
    assert verbs.asked[-1] == ("plan_files", {}, {"late/new:/a": b"1"}, [], {})


@pytest.mark.parametrize(
    ("ask", "kind", "code"),
    [
        (lambda r: r.create_repo(f"{P}/flights"), Conflict, "repo.exists"),
        (lambda r: r.put(f"{P}/nothing", {"/a": b""}), NotFound, "repo.unknown"),
        (lambda r: r.read(f"{P}/flights:/none"), NotFound, "file.unknown"),
        (lambda r: r.get(f"{P}/flights:/none", r"x"), NotFound, "file.unknown"),
        (lambda r: r.job("zzzz"), NotFound, "job.unknown"),
        (lambda r: r.deploy(P, f"{P}/model@3"), Denied, "model.not_blessed"),
        (lambda r: r.wait("nowhere"), NotFound, "change.unknown"),
    ],
)
def test_an_error_is_the_same_error_far_away(remote, ask, kind, code):
    with pytest.raises(ClewError) as caught:
        ask(remote)
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert caught.value.hint


def test_waiting_shows_each_event_once_and_ends_when_nothing_is_left(remote, verbs, fake):
    verbs.busy.set()
    seen = []
    first_live = threading.Event()

    def watch(event):
        seen.append(event)
        if event.subject == "live":
            first_live.set()

    waiting = threading.Thread(target=remote.wait, args=(fake.JUNE,), kwargs={"watch": watch})
    waiting.start()
    verbs.happen("job.started", "live", step="clean")
    assert first_live.wait(60)
    verbs.happen("job.ended", "last", step="clean")
    verbs.busy.clear()
    waiting.join(60)
    assert not waiting.is_alive()
    assert [event.seq for event in seen] == list(range(1, len(verbs.log_of_events) + 1))
    remote.wait(fake.JUNE, watch=seen.append)
    assert seen == verbs.log_of_events


def test_waiting_too_long_says_so(remote, verbs):
    verbs.busy.set()
    with pytest.raises(NotReady) as caught:
        remote.wait(timeout_s=0.05)
    assert caught.value.code == "wait.timeout"


def test_a_wait_outlives_a_restart_of_the_server(verbs, serving):
    verbs.busy.set()
    seen, live = [], threading.Event()

    def watch(event):
        seen.append(event.subject)
        live.set()

    with serving(verbs) as url:
        port = int(url.rpartition(":")[2])
        remote = RemoteWorkspace(url)
        waiting = threading.Thread(target=remote.wait, kwargs={"watch": watch})
        waiting.start()
        while not live.wait(0.02):
            verbs.happen("job.started", "before")
    verbs.happen("job.started", "between")
    verbs.busy.clear()
    with serving(verbs, port=port):
        waiting.join(60)
    assert not waiting.is_alive()
    assert seen[-1] == "between"
    remote.close()


def test_a_server_that_is_not_there_is_unreachable():
    with pytest.raises(Unavailable) as caught, closing(RemoteWorkspace("http://127.0.0.1:9")) as r:
        r.repos()
    assert caught.value.code == "server.unreachable"
    assert "clew server" in caught.value.hint
    with pytest.raises(Unavailable), closing(RemoteWorkspace("nonsense")) as r:
        r.repos()


def test_a_token_opens_the_door(verbs, serving):
    with serving(verbs, token="s3cret-token") as url:
        with pytest.raises(Denied) as caught, closing(RemoteWorkspace(url)) as r:
            r.repos()
        assert caught.value.code == "auth.required"
        with pytest.raises(Denied), closing(RemoteWorkspace(url, "wrong")) as r:
            r.put("a/b", {"/a": bytes(4_000_000)})
        with closing(RemoteWorkspace(url, "s3cret-token")) as r:
            assert r.repos() == verbs.repos()
