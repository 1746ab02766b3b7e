"""A program as a step is checked where it is written, and travels as values."""

import pytest

import clew
from clew.authoring.manifest import describe, read_manifests
from clew.base.errors import Invalid


def make() -> tuple[clew.Pipeline, object]:
    pipeline = clew.Pipeline("p")
    return pipeline, pipeline.source("raw")


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [
        ([], {}, "command of x"),
        ("  ", {}, "is empty"),
        ([1], {}, "command of x"),
        (["a"], {"stdin": "other"}, "'other'"),
        (["a"], {"pipes": "raw"}, "Give a list"),
        (["a"], {"pipes": ["raw"], "stdin": "raw"}, "one way"),
        (["a"], {"exit_codes": ()}, "exit_codes"),
        (["a"], {"exit_codes": (300,)}, "exit_codes"),
        (["a"], {"env": {"1A": "x"}}, "1A"),
        (["a"], {"python": "three"}, "python='three'"),
        (["a"], {"image": "i", "sandbox": True}, "image"),
        (["a"], {"network": True}, "network"),
        (["a"], {"cpus": 0}, "cpus=0"),
        (["a"], {"timeout_s": -1.0}, "timeout_s=-1.0"),
        (["a"], {"requirements": ["six"], "image": "i"}, "image"),
    ],
)
def test_what_a_program_cannot_be_is_refused(command, options, said):
    pipeline, raw = make()
    with pytest.raises(Invalid) as raised:
        pipeline.cmd("x", command, raw, **options)
    assert raised.value.code == "pipeline.definition"
    assert said in str(raised.value)


def test_a_program_is_a_node_that_others_read():
    pipeline, raw = make()
    up = pipeline.cmd("up", "tr a-z A-Z", raw, stdin="raw", stdout="x", exit_codes=(1, 0))
    assert up.command.shell
    assert up.command.exit_codes == (0, 1)
    assert pipeline.cmd("down", ["cat"], up, named={"old": raw}).repo == "p/down"


PROGRAM = """
import clew
p = clew.Pipeline("p")
up = p.cmd("up", ["true"], p.source("raw"))

@p.expect(up)
def whole(t):
    t.column("x").not_null(action="ACTION")
"""


def steps_of(directory, action):
    (directory / f"{action}.py").write_text(PROGRAM.replace("ACTION", action))
    told = {"directory": str(directory), "snapshot": "s", "file": f"{action}.py"}
    return read_manifests(describe(told, None))[0].pipeline.steps


def test_expectations_of_a_program_travel_and_none_of_them_puts_rows_aside(tmp_path):
    (step,) = steps_of(tmp_path, "warn")
    assert [one["action"] for one in step.expectations] == ["warn"]
    with pytest.raises(Invalid, match="quarantine"):
        steps_of(tmp_path, "quarantine")
