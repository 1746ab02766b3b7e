"""Results that are there are held against the code that made them; nothing is changed by asking."""

from __future__ import annotations

import itertools

import pytest

from clew.base.errors import ClewError
from clew.repos import file_of
from clew.workspace.file_checks import first_difference

FLOW = """
from pathlib import Path
import os
import clew

p = clew.Pipeline("p")
raw = p.source("raw")

@p.step(raw, per="file")
def steady(raw: bytes) -> str:
    return raw.decode().upper()

@p.step(raw, per="file")
def odd(raw: bytes) -> str:
    if raw == b"loud":
        return "same until here, then " + os.urandom(4).hex()
    return raw.decode()

@p.step(steady)
def table(steady: list[str]) -> dict:
    return {"count": len(steady)}
"""


@pytest.fixture(scope="module")
def made(one_shop):
    one_shop.apply(FLOW)
    one_shop.put(a="quiet", b="loud", c="more", d="last")
    return one_shop


def rows(shop):
    """All that could be changed by asking: jobs, commits, and heads."""
    heads = {repo.name: dict(repo.branches) for repo in shop.clew.repos()}
    return heads, [(job.id, job.state, job.done) for job in shop.clew.jobs()]


def test_a_step_that_gives_the_same_is_verified_and_nothing_changes(made):
    before = rows(made)
    found = made.clew.verify("p", "steady")
    assert (found.known, found.same, found.different, found.failed) == (4, 4, 0, 0)
    assert rows(made) == before


def test_a_step_that_gives_something_else_is_named_with_the_datum_and_the_byte(made):
    found = made.clew.verify("p", "odd")
    assert (found.same, found.different) == (3, 1)
    (wrong,) = [one for one in found.datums if one.verdict == "different"]
    assert wrong.inputs == ("p/raw:/b.txt",)
    (file,) = wrong.files
    assert file.offset >= len("same until here, then ")
    assert file.text is not None
    assert [one.name for one in found.undeclared] == ["os.urandom"]


def test_a_seed_draws_the_same_datums_and_another_draws_others(made):
    def drawn(seed):
        found = made.clew.verify("p", "steady", sample=2, seed=seed)
        return {one.inputs for one in found.datums}

    assert drawn(1) == drawn(1)
    assert len({frozenset(drawn(seed)) for seed in range(8)}) > 1


def test_what_was_verified_is_told_as_events(made):
    last = max((event.seq for event in made.clew.events()), default=0)
    made.clew.verify("p", "odd")
    told = [e for e in made.clew.events(after=last) if e.kind == "datum.verified"]
    assert sorted(event.data["verdict"] for event in told) == ["different", "same", "same", "same"]


def test_a_job_is_reproduced_byte_for_byte_by_its_id_and_by_its_commit(made):
    job = made.last("steady")
    found = made.clew.reproduce(job.id)
    assert (found.verdict, found.datums, found.expected) == ("identical", 4, found.found)
    assert made.clew.reproduce(job.output).verdict == "identical"
    assert made.clew.reproduce("p/table@main").verdict == "identical"


def test_a_job_is_reproduced_by_the_code_of_then(shop):
    shop.apply(FLOW)
    shop.put(a="quiet")
    job = shop.last("steady")
    shop.apply(FLOW.replace(".upper()", ".title()"))
    assert shop.last("steady").id != job.id
    assert shop.clew.reproduce(job.id).verdict == "identical"


def test_what_differs_when_it_is_repeated_is_said_with_what_may_be_the_reason(made):
    before = rows(made)
    found = made.clew.reproduce(made.last("odd").id)
    assert found.verdict == "different"
    assert [file.path for file in found.files] == ["/b.txt"]
    assert any("os.urandom" in reason for reason in found.reasons)
    assert rows(made) == before


TRAINING = """
import clew

p = clew.Pipeline("p")
rows = p.source("rows")

@p.train(rows, target="y", test=clew.holdout(0.5), search=clew.single(metric="loss"))
def model(data, trial):
    import random
    from sklearn.dummy import DummyClassifier
    dice = random.Random({seed})
    trial.report(1, loss=dice.random())
    made = DummyClassifier(strategy="stratified", random_state=dice.randrange(1000000))
    return made.fit(data.select("x").to_pandas(), data["y"].to_numpy())
"""


@pytest.mark.parametrize(("seed", "verdict"), [("trial.seed", "identical"), ("None", "different")])
def test_a_training_is_repeated_and_its_metrics_compared(shop, seed, verdict):
    shop.apply(TRAINING.format(seed=seed))
    content = b"x,y\n" + b"".join(b"%d,%d\n" % (n, n % 2) for n in range(40))
    shop.clew.put("p/rows", {"/rows.csv": content})
    shop.clew.wait()
    job = shop.last("model")
    assert job.error == ""
    found = shop.clew.reproduce(job.id)
    assert (found.verdict, found.error) == (verdict, "")
    assert "loss" in {one.name for one in found.metrics}


def test_wrong_questions_say_what_is_wrong(made):
    source = made.clew.commit("p/raw@main").id
    asked = {
        "pipeline.unknown": lambda: made.clew.verify("nothing"),
        "step.unknown": lambda: made.clew.verify("p", "stedy"),
        "verify.sample": lambda: made.clew.verify("p", sample=0),
        "reproduce.source": lambda: made.clew.reproduce(source),
    }
    for code, ask in asked.items():
        with pytest.raises(ClewError) as raised:
            ask()
        assert raised.value.code == code


def test_the_first_byte_that_differs_is_found_across_pieces(tmp_path, made):
    """A file that is compared piece by piece has no seam."""
    size = (1 << 20) + 10
    for at in (0, 5, (1 << 20) - 1, 1 << 20, size - 1):
        left = bytearray(size)
        right = bytearray(size)
        right[at] = 1
        assert _offset(made, bytes(left), bytes(right)) == at


_NUMBERS = itertools.count()


def _offset(shop, left: bytes, right: bytes) -> int:
    name = f"scratch{next(_NUMBERS)}"
    shop.clew.create_repo(name)
    commit = shop.clew.put(name, {"/left": left, "/right": right})
    store, tree = shop.clew.rooms.store, shop.clew.rooms.repos.commit_by_id(commit.id).tree
    return first_difference(file_of(store, tree, "/left"), file_of(store, tree, "/right"))
