"""A program as a step is checked where it is written, and travels as values."""

import pytest

import clew
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


def test_expectations_are_not_taken_in_silence():
    pipeline, raw = make()
    up = pipeline.cmd("up", ["true"], raw)
    with pytest.raises(Invalid, match="program"):
        pipeline.expect(up)
