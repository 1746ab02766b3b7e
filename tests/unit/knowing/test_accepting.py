"""A change of code can be accepted; why a job ran is said down to the piece of code."""

from __future__ import annotations

import pytest

from clew.base.errors import Conflict, Invalid

FLOW = """
import clew

p = clew.Pipeline("p")
raw = p.source("raw")
LIMIT = 1

def help(text):
    return text * LIMIT

@p.step(raw, per="file")
def f(raw: bytes) -> str:
    return help(raw.decode())

@p.step(f, per="file")
def g(f: str) -> str:
    return f
"""
TIDIED = FLOW.replace("return text * LIMIT", "return LIMIT * text")


def made(shop):
    shop.apply(FLOW)
    shop.put(a="1", b="2")
    return shop


def test_an_accepted_change_runs_nothing_and_holds_on_when_the_file_is_applied_again(shop):
    made(shop)
    shop.clew.apply(shop.write(TIDIED))  # nobody works here: the job waits
    shop.clew.accept("p", "f", reason="the same product")
    shop.clew.wait()
    assert shop.ran("f") == 0
    shop.apply(TIDIED + "\n# said again\n")
    shop.put(c="3")
    assert (shop.ran("f"), shop.last("f").skipped) == (1, 2)


def test_undoing_runs_what_differs(shop):
    made(shop)
    shop.clew.apply(shop.write(TIDIED))
    shop.clew.accept("p", reason="the same product")
    shop.clew.wait()
    shop.clew.accept("p", "f", reason="", undo=True)
    shop.clew.wait()
    assert shop.ran("f") == 2


def test_a_later_change_is_not_accepted_with_it(shop):
    made(shop)
    shop.clew.apply(shop.write(TIDIED))
    shop.clew.accept("p", "f", reason="the same product")
    shop.apply(TIDIED.replace("LIMIT * text", "LIMIT * text * 2"))
    assert sum(job.done for job in shop.clew.jobs() if job.step == "f") == 4


def test_an_acceptance_is_told_and_can_be_verified(shop):
    made(shop)
    shop.clew.apply(shop.write(FLOW.replace("return text * LIMIT", "return text * LIMIT + '!'")))
    shop.clew.accept("p", "f", reason="wrongly")
    shop.clew.wait()
    told = [event for event in shop.clew.events() if event.kind == "step.accepted"]
    assert [event.data["reason"] for event in told] == ["wrongly"]
    jobs = [job.id for job in shop.clew.jobs() if job.step == "f"]
    assert any(one.kind == "accepted" for id in jobs for one in shop.clew.why(id).causes)
    assert shop.clew.verify("p", "f").different == 2


def test_nothing_is_accepted_where_nothing_differs_or_without_a_reason(shop):
    made(shop)
    with pytest.raises(Conflict) as nothing:
        shop.clew.accept("p", "f", reason="why not")
    with pytest.raises(Invalid) as silent:
        shop.clew.accept("p", "f", reason=" ")
    assert (nothing.value.code, silent.value.code) == ("accept.nothing", "accept.reason")


def test_why_names_the_changed_constant_with_both_values(shop):
    made(shop)
    shop.apply(FLOW.replace("LIMIT = 1", "LIMIT = 2"))
    (cause,) = shop.clew.why(shop.last("f").id).causes
    assert (cause.kind, cause.name) == ("code", "flow.py:LIMIT")
    assert (cause.old, cause.new) == ("LIMIT = 1", "LIMIT = 2")


def test_why_shows_the_difference_of_a_changed_function(shop):
    made(shop)
    shop.apply(TIDIED)
    (cause,) = shop.clew.why(shop.last("f").id).causes
    assert cause.name == "flow.py:help"
    assert "-    return text * LIMIT" in cause.diff
    assert "+    return LIMIT * text" in cause.diff


def test_why_names_files_that_were_added_and_changed(shop):
    made(shop)
    shop.put(a="9", c="3")
    causes = shop.clew.why("p/f@main:/a.txt").causes
    assert {(one.name, bool(one.old), bool(one.new)) for one in causes} == {
        ("p/raw:/a.txt", True, True),
        ("p/raw:/c.txt", False, True),
    }


def test_a_plan_tells_its_likely_cost_and_guesses_what_is_downstream(shop):
    made(shop)
    (plan,) = shop.clew.plan(shop.write(TIDIED))
    first, second = plan.costs
    assert (first.step, first.run, first.sure) == ("f", 2, True)
    assert first.total_s is not None
    assert first.total_s > 0
    assert (second.step, second.run, second.sure) == ("g", 2, False)


def test_a_plan_of_what_never_ran_says_that_its_cost_is_unknown(shop):
    shop.clew.create_repo("p/raw")
    shop.clew.put("p/raw", {"/a.txt": b"1"})
    (plan,) = shop.clew.plan(shop.write(FLOW))
    assert (plan.costs[0].run, plan.costs[0].total_s) == (1, None)
