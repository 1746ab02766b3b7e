"""A plan tells what data and packages that are only supposed would do, and keeps nothing of it."""

from __future__ import annotations

import pytest

from clew.base.errors import ClewError
from clew.cli import planning

FLOW = """
import clew
import msgspec

p = clew.Pipeline("p")
raw = p.source("raw")
sign = p.parameter("sign", "!")

@p.step(raw, per="file", parameters={"sign": sign})
def f(raw: bytes, sign: str) -> str:
    return raw.decode() + sign

@p.step(raw)
def packed(raw: list[bytes]) -> bytes:
    return msgspec.json.encode(len(raw))

@p.step(f)
def g(f: list[bytes]) -> str:
    return str(len(f))
"""
BIG = b"".join(b"%d\n" % number for number in range(400_000))


@pytest.fixture(scope="module")
def made(one_shop):
    one_shop.apply(FLOW)
    one_shop.clew.put("p/raw", {"/a.txt": b"1", "/b.txt": b"2", "/big.txt": BIG})
    one_shop.clew.wait()
    return one_shop


def planned(shop, **supposed):
    """(step, action, name of the first file) of each datum, but for what is skipped; the plan."""
    (plan,) = shop.clew.plan(shop.directory / "flow.py", **supposed)
    told = {
        (one.step, one.action, one.inputs[0].rpartition("/")[2])
        for one in plan.datums
        if one.action != "skip"
    }
    return told, plan


def test_data_that_is_supposed_runs_what_committing_it_would_run(made):
    change = {"p/raw:/a.txt": b"9", "p/raw:/c.txt": b"3"}
    told, plan = planned(made, put=change, delete=["p/raw:/b.txt"])
    assert told == {
        ("f", "run", "a.txt"),
        ("f", "run", "c.txt"),
        ("f", "delete", "b.txt"),
        ("packed", "run", "**"),
    }
    assert plan.unknown == ("g",)
    assert {one.step: one.run for one in plan.costs} == {"f": 2, "packed": 1, "g": 1}
    assert all(one.total_s is not None for one in plan.costs)
    assert not plan.new_version


def test_content_that_is_there_already_runs_nothing_also_where_it_is_large(made, tmp_path):
    (tmp_path / "big.txt").write_bytes(BIG)
    told, _ = planned(made, put={"p/raw:/big.txt": tmp_path / "big.txt", "p/raw:/a.txt": b"1"})
    assert told == set()
    told, _ = planned(made, put={"p/raw:/": tmp_path})
    assert told == set()


def test_nothing_that_is_supposed_is_kept(made):
    before = [(one.name, one.branches) for one in made.clew.repos()]
    chunks = made.clew.rooms.store.objects("chunk")
    other = BIG.replace(b"7", b"x")
    planned(made, put={"p/raw:/big.txt": other, "p/raw@new:/a.txt": b"1"})
    assert [(one.name, one.branches) for one in made.clew.repos()] == before
    assert made.clew.rooms.store.objects("chunk") == chunks


def test_a_parameter_and_a_package_run_the_steps_that_use_them(made):
    told, _ = planned(made, parameters={"sign": "?"})
    assert {step for step, _, _ in told} == {"f"}
    told, plan = planned(made, packages={"MsgSpec": "99.1"})
    assert told == {("packed", "run", "**")}
    (reason,) = (one.reason for one in plan.datums if one.step == "packed")
    assert reason.endswith("→ 99.1")
    told, plan = planned(made, packages={"python": "3.99"})
    assert {step for step, _, _ in told} == {"f", "packed"}
    told, plan = planned(made, packages={"nobodys": "1"})
    assert told == set()
    assert any("nobodys" in note for note in plan.notes)


def test_data_on_a_branch_is_planned_for_the_pipeline_on_that_branch(made):
    there = {"p/raw@try:/c.txt": b"3"}
    told, _ = planned(made, put=there)
    assert told == set()
    told, _ = planned(made, put=there, branch="try")
    assert told == {("f", "run", "c.txt"), ("packed", "run", "**")}


def test_a_plan_knows_what_was_accepted(shop):
    shop.apply(FLOW)
    shop.put(a="1")
    tidied = FLOW.replace("raw.decode() + sign", "''.join((raw.decode(), sign))")
    shop.clew.apply(shop.write(tidied))
    shop.clew.accept("p", "f", reason="the same text")
    shop.clew.wait()
    shop.write(tidied + "\n# said again\n")
    told, _ = planned(shop)
    assert told == set()


@pytest.mark.parametrize(
    ("supposed", "code"),
    [
        ({"put": {"p/raw^1:/a": b""}}, "plan.place"),
        ({"put": {"p/raw": b""}}, "plan.place"),
        ({"put": {"p/f:/a": b""}}, "repo.derived"),
        ({"delete": ["p/none:/a"]}, "repo.unknown"),
        ({"packages": {"polars": ""}}, "plan.package"),
    ],
)
def test_what_cannot_be_supposed_is_refused(made, supposed, code):
    with pytest.raises(ClewError) as wrong:
        planned(made, **supposed)
    assert wrong.value.code == code


# the command ----------------------------------------------------------------------------------


def test_the_command_tells_a_place_from_its_local_file_also_where_both_hold_an_equals_sign(
    tmp_path,
):
    file = tmp_path / "k=v.csv"
    file.write_text("1")
    place = planning._place(f"p/raw:/year=2013/x.csv={file}")
    assert place == ("p/raw:/year=2013/x.csv", file)
    assert planning._place(f"p/raw={file}") == ("p/raw:/k=v.csv", file)
    assert planning._place(f"p/raw={tmp_path}") == ("p/raw:/", tmp_path)


def test_a_requirements_file_gives_the_versions_that_it_pins(tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text(
        "-i https://example.invalid\n# said\npolars==2.1.0 \\\n    --hash=sha256:00\n"
        "pandas[excel]==2.3.3 ; python_version > '3'\n"
    )
    found = dict(planning._pinned(file))
    assert found == {"polars": "2.1.0", "pandas": "2.3.3"}
    file.write_text("polars>=2\n")
    with pytest.raises(ClewError) as wrong:
        dict(planning._pinned(file))
    assert wrong.value.code == "plan.package"


def test_without_a_file_the_registered_pipelines_are_planned(made):
    change = {"p/raw:/a.txt": b"9", "p/raw:/c.txt": b"3"}
    _, named = planned(made, put=change)
    (plan,) = made.clew.plan(put=change)
    assert (plan.pipeline, plan.datums, plan.costs) == ("p", named.datums, named.costs)
    assert not plan.new_version
    assert made.clew.plan(branch="other") == []
    with pytest.raises(ClewError, match="none is named") as refused:
        made.clew.plan(parameters={"sign": "?"})
    assert refused.value.code == "plan.file"
