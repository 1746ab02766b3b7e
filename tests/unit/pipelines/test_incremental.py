"""Only what changed runs, and it can say why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.pipelines import InputDefinition
from clew.store import Entry

if TYPE_CHECKING:
    from .conftest import Lab

UPPER = """
LIMIT = 1

def up(raw: str) -> str:
    return raw.upper() * LIMIT

def join(up: list[str]) -> str:
    return "+".join(up)
"""


def test_a_datum_per_file_runs_once_and_lands_under_the_name_of_its_file(lab: Lab) -> None:
    lab.code(UPPER)
    lab.apply(lab.step("up", "raw/"), lab.step("join", "up"))
    lab.put({"/a.txt": "a", "/b/c.txt": "c"})
    lab.run()
    assert lab.output("up") == {"/a.txt": "A", "/b/c.txt": "C"}
    assert lab.output("join") == {"/join.txt": "A+C"}
    assert lab.reasons("up") == {"/a.txt": "first run", "/b/c.txt": "first run"}


def test_the_next_commit_runs_only_what_is_new(lab: Lab) -> None:
    lab.code(UPPER)
    lab.apply(lab.step("up", "raw/"), lab.step("join", "up"))
    lab.put({"/a.txt": "a", "/b.txt": "b"})
    lab.run()
    first = lab.last("up")
    lab.put({"/c.txt": "c", "/b.txt": "B2"})
    lab.run()
    assert lab.states("up") == {"/a.txt": "skipped", "/b.txt": "done", "/c.txt": "done"}
    assert lab.reasons("up") == {
        "/a.txt": f"unchanged since job {first.id[:8]}",
        "/b.txt": "file changed",
        "/c.txt": "new file",
    }
    assert lab.output("join") == {"/join.txt": "A+B2+C"}
    assert list(lab.reasons("join").values()) == ["p/up changed"]
    job = lab.last("up")
    assert (job.state, job.total, job.done, job.skipped, job.failed) == ("done", 3, 2, 1, 0)


def test_a_file_that_goes_takes_its_output_with_it(lab: Lab) -> None:
    lab.code(UPPER)
    lab.apply(lab.step("up", "raw/"), lab.step("join", "up"))
    lab.put({"/a.txt": "a", "/b.txt": "b"})
    lab.run()
    lab.put({}, deletes=["/a.txt"])
    lab.run()
    assert lab.output("up") == {"/b.txt": "B"}
    assert lab.output("join") == {"/join.txt": "B"}
    assert lab.last("up").done == 0


def test_a_job_without_a_datum_names_the_input_that_nothing_matches(lab: Lab) -> None:
    lab.code(UPPER)
    lab.apply(lab.step("up", InputDefinition(parameter="raw", repo="p/raw", glob="/*.csv")))
    lab.put({"/a.txt": "a", "/deep/b.csv": "b"})
    lab.run()
    job = lab.last("up")
    assert (job.state, job.total) == ("done", 0)
    assert job.reason.endswith(" No datum: no file matches p/raw:/*.csv.")
    lab.put({"/a.csv": "a"})
    lab.run()
    assert "No datum" not in lab.last("up").reason


def test_all_files_gone_is_an_empty_output(lab: Lab) -> None:
    lab.code(UPPER)
    lab.apply(lab.step("up", "raw/"), lab.step("join", "up"))
    lab.put({"/a.txt": "a"})
    lab.run()
    lab.put({}, deletes=["/a.txt"])
    lab.run()
    assert lab.output("up") == {}
    assert lab.output("join") == {}


def test_a_changed_constant_runs_all_and_is_named(lab: Lab) -> None:
    lab.code(UPPER)
    lab.apply(lab.step("up", "raw/"), lab.step("join", "up"))
    lab.put({"/a.txt": "a"})
    lab.run()
    lab.code(UPPER.replace("LIMIT = 1", "LIMIT = 2"))
    lab.apply(lab.step("up", "raw/"), lab.step("join", "up"))
    lab.run()
    assert lab.output("up") == {"/a.txt": "AA"}
    assert lab.reasons("up") == {"/a.txt": "code changed: a.py:LIMIT"}
    assert lab.output("join") == {"/join.txt": "AA"}


def test_a_comment_is_a_new_version_that_runs_nothing(lab: Lab) -> None:
    lab.code(UPPER)
    lab.apply(lab.step("up", "raw/"))
    lab.put({"/a.txt": "a"})
    lab.run()
    lab.code(UPPER + "# a comment")
    change = lab.apply(lab.step("up", "raw/"))
    assert lab.pipelines.of_change(change) == []
    assert lab.pipelines.get("p").version == 2


def test_the_same_definition_is_no_new_version(lab: Lab) -> None:
    lab.code(UPPER)
    definition = lab.define(lab.step("up", "raw/"))
    assert lab.pipelines.register(definition, global_id="g1")[1]
    info, changed = lab.pipelines.register(definition, global_id="g2")
    assert (info.version, changed) == (1, False)


def test_code_that_comes_back_is_known(lab: Lab) -> None:
    lab.code(UPPER)
    lab.apply(lab.step("up", "raw/"))
    lab.put({"/a.txt": "a"})
    lab.run()
    first = lab.last("up")
    for text in (UPPER.replace("= 1", "= 2"), UPPER):
        lab.code(text)
        lab.apply(lab.step("up", "raw/"))
        lab.run()
    assert lab.output("up") == {"/a.txt": "A"}
    assert lab.datums("up")["/a.txt"].made_by == first.id


def test_jobs_are_counted_by_step_and_state_with_the_outcomes_of_their_datums(lab: Lab) -> None:
    lab.code(UPPER)
    lab.apply(lab.step("up", "raw/"))
    lab.put({"/a.txt": "a"})
    lab.run()
    lab.put({"/b.txt": "b"})
    lab.run()
    [up] = lab.pipelines.counts()
    assert (up.pipeline, up.step, up.state) == ("p", "up", "done")
    assert (up.jobs, up.done, up.skipped, up.failed) == (2, 2, 1, 0)


def test_an_upgrade_since_it_was_applied_runs_what_depends_on_it_once(lab: Lab) -> None:
    lab.code(UPPER)
    old = {"packages": {"polars": "0.0.1"}, "environment": "env:old"}
    lab.apply(lab.step("up", "raw/", **old), lab.step("join", "up"))
    lab.put({"/a.txt": "a"})
    lab.run()
    lab.pipelines.recover()
    lab.run()
    assert lab.last("up").reason.startswith("Environment changed: polars 0.0.1 → ")
    assert lab.states("up") == {"/a.txt": "done"}
    version = lab.pipelines.get("p").version
    assert version == 2
    lab.pipelines.recover()
    lab.run()
    assert lab.pipelines.get("p").version == version


def test_parameters_environment_and_version_are_named(lab: Lab) -> None:
    lab.code("def up(raw: str, n: int = 1) -> str: return raw * n")
    base = {"parameters": {"n": 1}, "packages": {"polars": "2.0"}, "environment": "env:1"}
    lab.apply(lab.step("up", "raw/", **base))
    lab.put({"/a.txt": "a"})
    lab.run()
    changes = [
        ({**base, "parameters": {"n": 2}}, "parameters changed: n"),
        (
            {**base, "parameters": {"n": 2}, "packages": {"polars": "2.1"}, "environment": "env:2"},
            "environment changed: polars 2.0 → 2.1",
        ),
    ]
    for options, reason in changes:
        lab.apply(lab.step("up", "raw/", **options))
        lab.run()
        assert lab.reasons("up") == {"/a.txt": reason}
    lab.apply(lab.step("up", "raw/", **changes[1][0], version="2"))
    lab.run()
    assert lab.reasons("up") == {"/a.txt": "version changed: none → 2"}
    lab.code("def up(raw: str, n: int = 1) -> str: return 'other'")
    lab.apply(lab.step("up", "raw/", **changes[1][0], version="2"))
    assert lab.last("up").state == "done"


def test_a_change_in_a_whole_input_runs_every_datum_of_the_cross(lab: Lab) -> None:
    lab.code("def both(raw: str, side: str) -> str: return raw + side")
    lab.sources = ("p/raw", "p/side")
    lab.apply(lab.step("both", "raw/", "side"))
    lab.put({"/a.txt": "a", "/b.txt": "b"})
    assert lab.pipelines.jobs() == []
    lab.put({"/s.txt": "1"}, repo="p/side")
    lab.run()
    assert lab.output("both") == {"/a.txt": "a1", "/b.txt": "b1"}
    lab.put({"/c.txt": "c"})
    lab.run()
    assert lab.last("both").skipped == 2
    lab.put({"/s.txt": "2"}, repo="p/side")
    lab.run()
    assert lab.output("both") == {"/a.txt": "a2", "/b.txt": "b2", "/c.txt": "c2"}
    assert set(lab.reasons("both").values()) == {"p/side changed"}


def test_a_reference_is_read_but_runs_nothing(lab: Lab) -> None:

    lab.code("def both(raw: str, side: str) -> str: return raw + side")
    lab.sources = ("p/raw", "p/side")
    side = InputDefinition(parameter="side", repo="p/side", kind="reference")
    lab.apply(lab.step("both", "raw/", side))
    lab.put({"/s.txt": "1"}, repo="p/side")
    lab.put({"/a.txt": "a"})
    lab.run()
    change = lab.put({"/s.txt": "2"}, repo="p/side")
    assert lab.pipelines.of_change(change.global_id) == []
    lab.put({"/b.txt": "b"})
    lab.run()
    assert lab.output("both") == {"/a.txt": "a1", "/b.txt": "b2"}


def test_directories_and_captures_make_groups(lab: Lab) -> None:

    lab.code(
        """
        def days(raw: list[str]) -> str: return "".join(raw)
        def kinds(raw: list[str]) -> str: return "".join(raw)
        """
    )
    by_day = InputDefinition(parameter="raw", repo="p/raw", per="directory")
    by_kind = InputDefinition(parameter="raw", repo="p/raw", glob="/*/(*).txt", per="capture")
    lab.apply(lab.step("days", by_day), lab.step("kinds", by_kind))
    lab.put({"/1/x.txt": "a", "/1/y.txt": "b", "/2/x.txt": "c"})
    lab.run()
    assert lab.output("days") == {"/1.txt": "ab", "/2.txt": "c"}
    assert lab.output("kinds") == {"/x.txt": "ac", "/y.txt": "b"}
    lab.put({"/2/y.txt": "d"})
    lab.run()
    assert lab.output("days") == {"/1.txt": "ab", "/2.txt": "cd"}
    assert (lab.last("days").done, lab.last("kinds").done) == (1, 1)
    assert [d.reason for d in lab.datums("days").values() if d.state == "done"] == ["files changed"]


def test_a_step_without_inputs_runs_once(lab: Lab) -> None:
    lab.code("def make() -> str: return 'x'")
    lab.apply(lab.step("make"))
    lab.run()
    assert lab.output("make") == {"/make.txt": "x"}
    assert lab.last("make").total == 1


def test_a_glob_that_changes_reads_other_files(lab: Lab) -> None:

    lab.code("def up(raw: str) -> str: return raw.upper()")
    a = InputDefinition(parameter="raw", repo="p/raw", glob="/a*", per="file")
    b = InputDefinition(parameter="raw", repo="p/raw", glob="/b*", per="file")
    lab.apply(lab.step("up", a))
    lab.put({"/a.txt": "a", "/b.txt": "b"})
    lab.run()
    lab.apply(lab.step("up", b))
    lab.run()
    assert lab.output("up") == {"/b.txt": "B"}


def test_asked_for_by_hand_everything_runs_anew(lab: Lab) -> None:
    lab.code("import os\ndef up(raw: str) -> str: return os.urandom(4).hex()")
    lab.apply(lab.step("up", "raw/"))
    lab.put({"/a.txt": "a", "/b.txt": "b"})
    lab.run()
    before = lab.output("up")
    lab.pipelines.request("p", "up", reason="Somebody doubted it.")
    lab.run()
    after = lab.output("up")
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())
    assert set(lab.reasons("up").values()) == {"a new run was asked for"}
    lab.put({"/c.txt": "c"})
    lab.run()
    assert (lab.last("up").done, lab.last("up").skipped) == (1, 2)
    assert {path: text for path, text in lab.output("up").items() if path != "/c.txt"} == after


def test_two_datums_with_one_path_fail_the_job_and_both_are_named(lab: Lab) -> None:
    lab.code("def up(raw: str) -> dict: return {'n': raw}")
    lab.apply(lab.step("up", "raw/"))
    lab.put({"/a.txt": "a"})
    lab.run()
    lab.put({"/a.csv": "b"})
    lab.run()
    job = lab.last("up")
    assert job.state == "failed"
    assert "Two datums wrote /a.json: /a.txt and /a.csv." in job.reason
    assert lab.output("up") == {"/a.json": '{"n":"a"}'}


def test_what_a_plan_says_is_what_happens(lab: Lab) -> None:
    lab.code(UPPER)
    lab.apply(lab.step("up", "raw/"), lab.step("join", "up"))
    lab.put({"/a.txt": "a", "/b.txt": "b"})
    lab.run()
    definition = lab.define(lab.step("up", "raw/"), lab.step("join", "up"))
    plan = lab.pipelines.plan(definition)
    assert ({one.action for one in plan.datums}, plan.new_version) == ({"skip"}, False)
    with lab.store.writer() as writer:
        digest, size = writer.put(b"c")
        head = lab.repos.head("p/raw")
        assert head is not None
        tree = writer.tree(
            head.tree, [Entry(path="/c.txt", digest=digest, size_bytes=size)], ["/a.txt"]
        )
    plan = lab.pipelines.plan(definition, {("p/raw", "main"): tree})
    assert {
        (one.action, one.inputs, one.reason) for one in plan.datums if one.action != "skip"
    } == {
        ("run", ("p/raw:/c.txt",), "new file"),
        ("delete", ("p/raw:/a.txt",), "its files are gone"),
    }
    assert plan.unknown == ("join",)
    lab.code(UPPER.replace("= 1", "= 3"))
    plan = lab.pipelines.plan(lab.define(lab.step("up", "raw/"), lab.step("join", "up")))
    assert {one.reason for one in plan.datums} == {"code changed: a.py:LIMIT"}
    assert plan.new_version


def test_a_thousand_datums_and_then_one_more(lab: Lab) -> None:
    lab.code(UPPER)
    lab.apply(lab.step("up", "raw/"))
    lab.put({f"/{n % 10}/{n}.txt": str(n) for n in range(1000)})
    lab.run()
    assert len(lab.output("up")) == 1000
    lab.put({"/new.txt": "n"})
    lab.run()
    job = lab.last("up")
    assert (job.total, job.done, job.skipped) == (1001, 1, 1000)
    assert len(lab.output("up")) == 1001


def test_frames_go_in_and_out(lab: Lab) -> None:
    lab.code(
        """
        import polars as pl

        def rows(raw: pl.DataFrame) -> pl.DataFrame:
            return raw.with_columns(double=pl.col("n") * 2)

        def all_rows(rows: pl.DataFrame) -> dict:
            return {"sum": rows["double"].sum()}
        """
    )
    lab.apply(lab.step("rows", "raw/"), lab.step("all_rows", "rows"))
    lab.put({"/a.csv": "n\n1\n2\n", "/b.csv": "n\n3\n"})
    lab.run()
    assert lab.output("all_rows") == {"/all_rows.json": '{"sum":12}'}
