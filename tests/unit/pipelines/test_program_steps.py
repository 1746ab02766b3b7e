"""A step that is a program is a step like any other: datums, keys, limits, logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psutil

from clew.base.records import CodeRef
from clew.pipelines import InputDefinition, StepDefinition
from clew.places import CommandDefinition, RuntimeDefinition

if TYPE_CHECKING:
    from .conftest import Lab


def program(lab: Lab, name: str, text: str, *inputs: str, **options: Any) -> StepDefinition:
    command = {"arguments": (text,), "shell": True, **options.pop("command", {})}
    return StepDefinition(
        name=name,
        inputs=tuple(
            InputDefinition(
                parameter=one.rstrip("/"),
                repo=f"p/{one.rstrip('/')}",
                per="file" if one.endswith("/") else "repo",
            )
            for one in inputs
        ),
        function=CodeRef(snapshot=lab.snapshot, file="a.py", name=name),
        fingerprint=options.pop("fingerprint", "code"),
        command=CommandDefinition(**command),
        output_repo=f"p/{name}",
        **options,
    )


def test_only_new_and_changed_files_run_through_a_program(lab: Lab) -> None:
    lab.code("")
    up = program(lab, "up", "tr a-z A-Z < $CLEW_FILE_raw > $CLEW_OUTPUT/$CLEW_DATUM_NAME", "raw/")
    total = program(lab, "total", "cat $CLEW_INPUT_up/*", "up", command={"stdout": "all"})
    lab.apply(up, total)
    lab.put({"/a.txt": "a", "/b.txt": "b"})
    lab.run()
    assert lab.output("total") == {"/all": "AB"}
    lab.put({"/b.txt": "c"}, deletes=["/a.txt"])
    lab.run()
    assert lab.states("up") == {"/b.txt": "done"}
    assert lab.output("total") == {"/all": "C"}
    lab.put({"/d.txt": "d"})
    lab.run()
    assert lab.states("up") == {"/b.txt": "skipped", "/d.txt": "done"}


def test_another_command_environment_or_code_runs_it_anew(lab: Lab) -> None:
    lab.code("")
    one = program(lab, "up", "cat $CLEW_FILE_raw", "raw", command={"stdout": "x"})
    lab.apply(one)
    lab.put({"/a.txt": "a"})
    lab.run()
    changes: list[dict[str, Any]] = [
        {"command": {"stdout": "x", "environment": {"LANG": "C"}}},
        {"command": {"stdout": "x", "exit_codes": (0, 1)}},
        {"command": {"stdout": "x"}, "fingerprint": "other"},
        {"command": {"stdout": "x"}, "runtime": RuntimeDefinition(sandbox=True)},
    ]
    for change in changes:
        plan = lab.pipelines.plan(
            lab.define(program(lab, "up", "cat $CLEW_FILE_raw", "raw", **change))
        )
        assert [datum.action for datum in plan.datums] == ["run"], change
    same = program(lab, "up", "cat $CLEW_FILE_raw", "raw", command={"stdout": "x"}, timeout_s=5.0)
    assert [datum.action for datum in lab.pipelines.plan(lab.define(same)).datums] == ["skip"]


def test_a_program_that_fails_is_told_with_its_last_words_and_its_log(lab: Lab) -> None:
    lab.code("")
    lab.apply(program(lab, "up", "echo said; grep x $CLEW_FILE_raw || { echo why >&2; exit 3; }",
                      "raw/", command={"stdout": ""}))  # fmt: skip
    lab.put({"/a.txt": "x\n", "/b.txt": "y\n"})
    lab.run()
    assert lab.states("up") == {"/a.txt": "done", "/b.txt": "failed"}
    error = lab.datums("up")["/b.txt"].error
    assert "exit code 3" in error
    assert "why" in error
    log = lab.pipelines.log(lab.last("up").id)
    assert log.count("said") == 2
    assert "why" in log


def test_a_program_over_its_time_ends_with_all_its_children(lab: Lab) -> None:
    lab.code("")
    pids = lab.home / "pids"
    text = f"sleep 600 & echo $! > {pids}; setsid sleep 601 & echo $! >> {pids}; wait"
    lab.apply(program(lab, "up", text, "raw", timeout_s=1.0))
    lab.put({"/a.txt": "a"})
    lab.run()
    assert "longer than 1 s" in lab.last("up").reason
    for pid in map(int, pids.read_text().split()):
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_program_over_its_memory_fails_alone(lab: Lab) -> None:
    lab.code("")
    text = (
        'if [ "$(cat $CLEW_FILE_raw)" = much ]; then'
        ' python3 -S -c "import time; eaten = bytearray(700 << 20); time.sleep(600)" & wait; fi'
    )
    lab.apply(program(lab, "up", text, "raw/", memory_bytes=500 << 20))
    lab.put({"/a.txt": "much", "/b.txt": "little"})
    lab.run()
    assert lab.states("up") == {"/a.txt": "failed", "/b.txt": "done"}
    assert "500 MiB is the limit" in lab.datums("up")["/a.txt"].error


def test_a_program_runs_on_as_many_cores_as_it_may(lab: Lab) -> None:
    lab.code("")
    text = "python3 -S -c 'import os; print(len(os.sched_getaffinity(0)))'"
    runtime = RuntimeDefinition(cpus=1)
    lab.apply(program(lab, "up", text, "raw", command={"stdout": "x"}, runtime=runtime))
    lab.put({"/a.txt": "a"})
    lab.run()
    assert lab.output("up") == {"/x": "1\n"}


WHOLE = {"kind": "expect_column_values_to_not_be_null", "columns": ["x"]}


def test_every_table_that_a_program_leaves_keeps_the_expectations(lab: Lab) -> None:
    lab.code("")
    text = "cp $CLEW_FILE_raw $CLEW_OUTPUT/$CLEW_DATUM_NAME.csv; echo said > $CLEW_OUTPUT/x.txt"
    lab.apply(program(lab, "up", text, "raw/", expectations=(WHOLE,)))
    lab.put({"/a.txt": "x,y\n1,2\n"})
    lab.run()
    assert lab.states("up") == {"/a.txt": "done"}
    lab.put({"/a.txt": "x,y\n1,2\n", "/b.txt": "x,y\n,2\n"})
    lab.run()
    assert lab.states("up") == {"/a.txt": "skipped", "/b.txt": "refused"}
    datum = lab.datums("up")["/b.txt"]
    assert "/b.csv: " in datum.error
    assert datum.evidence["expectations"][0]["examples"] == [{"row": 0, "x": None, "y": 2}]
    assert lab.last("up").state == "refused"


def test_what_a_program_streams_is_checked_and_a_warning_keeps_it(lab: Lab) -> None:
    lab.code("")
    lab.apply(program(lab, "up", "cat $CLEW_FILE_raw", "raw", command={"stdout": "all.csv"},
                      expectations=({**WHOLE, "action": "warn"},)))  # fmt: skip
    lab.put({"/a.txt": "x,y\n,2\n"})
    lab.run()
    (datum,) = lab.datums("up").values()
    assert (datum.state, len(datum.evidence["expectations"])) == ("done", 1)
    assert lab.output("up") == {"/all.csv": "x,y\n,2\n"}


def test_a_program_that_leaves_no_table_where_one_is_expected_has_failed(lab: Lab) -> None:
    lab.code("")
    lab.apply(program(lab, "up", "cat $CLEW_FILE_raw", "raw", command={"stdout": "all.txt"},
                      expectations=(WHOLE,)))  # fmt: skip
    lab.put({"/a.txt": "x\n1\n"})
    lab.run()
    (datum,) = lab.datums("up").values()
    assert (datum.state, datum.evidence["code"]) == ("failed", "step.output")
