"""What is declared to count counts, and nothing that is not."""

from __future__ import annotations

import pytest

from clew.base.errors import Invalid

HEAD = """
import clew
import helpers
from helpers import rule, Rates

p = clew.Pipeline("p")
raw = p.source("raw")
other = p.source("other")
"""
STEP = """
@p.step(raw, per="file", depends_on={depends})
def {name}(raw: bytes) -> bytes:
    return raw
"""
HELPERS = "def rule(x):\n    return x < 1\nclass Rates:\n    high = 1\n"
DEPENDS = {
    "on_function": ("rule", "helpers.py:rule"),
    "on_class": ("[Rates]", "helpers.py:Rates"),
    "on_module": ("helpers", "helpers.py:*"),
    "on_glob": ("'conf/*.json'", "conf/a.json"),
    "on_directory": ("['conf']", "conf/b.json"),
    "on_value": ("{'threshold': 1}", "value:threshold"),
}


def program(**depends: str) -> str:
    return HEAD + "".join(STEP.format(name=name, depends=what) for name, what in depends.items())


def files(flow: str, helpers: str = HELPERS, **more: str) -> dict[str, str]:
    return {"flow.py": flow, "helpers.py": helpers, "conf/a.json": "1", **more}


@pytest.fixture(scope="module")
def after_edits(one_shop):
    """A workspace where all that the steps of DEPENDS depend on has changed."""
    flow = program(**{name: what for name, (what, _) in DEPENDS.items()}, on_same="rule")
    one_shop.apply(files(flow))
    one_shop.put(a="1", b="2")
    edited = HELPERS.replace("x < 1", "x < 2").replace("high = 1", "high = 2")
    more = {"conf/a.json": "2", "conf/b.json": "1"}
    one_shop.apply(files(flow.replace("'threshold': 1", "'threshold': 2"), edited, **more))
    return one_shop


@pytest.mark.parametrize("name", DEPENDS)
def test_a_change_of_what_a_step_depends_on_runs_it(after_edits, name):
    assert after_edits.ran(name) == 2
    told = after_edits.last(name).reason.lower()
    assert "what it depends on changed" in told
    assert DEPENDS[name][1].lower() in told or "more" in told


def test_what_is_equal_in_other_words_runs_nothing(shop):
    shop.apply(files(program(f="rule")))
    shop.put(a="1")
    shop.apply(files(program(f="rule"), helpers="# said again\n" + HELPERS))
    assert len(shop.clew.jobs()) == 1


def test_a_variable_of_the_environment_counts_when_the_engine_starts_anew(shop, monkeypatch):
    monkeypatch.setenv("REGION", "north")
    shop.apply(files(program(f="'env:REGION'")))
    shop.put(a="1")
    monkeypatch.setenv("REGION", "south")
    shop.clew.rooms.pipelines.recover()
    shop.clew.wait()
    assert "env:REGION" in shop.last().reason
    assert shop.ran() == 1
    assert "north" not in str(shop.clew.rooms.pipelines.definition("p"))


def test_a_commit_to_a_repo_that_a_step_depends_on_runs_all_of_it(shop):
    shop.apply(files(program(f="other", g="'repo:p/other'")))
    shop.put("p/other", x="1")
    shop.put(a="1", b="2")
    assert (shop.ran("f"), shop.ran("g")) == (2, 2)
    shop.put("p/other", x="2")
    assert (shop.ran("f"), shop.ran("g")) == (2, 2)
    assert shop.datums()["a"].state == "done"


def test_what_cannot_be_depended_on_is_refused(shop):
    for depends in ("'missing.json'", "3", "len", "'/etc/hosts'", "{'x': object()}"):
        with pytest.raises(Invalid) as raised:
            shop.apply(files(program(f=depends)))
        assert "depends_on" in str(raised.value)
