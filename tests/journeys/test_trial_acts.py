"""A search, looked at, forked, continued and pruned: what a user does with trials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clew.base.errors import ClewError
from clew.base.records.trial_policy import Keep
from clew.base.settings import Settings
from clew.workspace import open_workspace

PIPELINE = """
import clew
from sklearn.dummy import DummyClassifier

p = clew.Pipeline("p")
rows = p.source("rows")

@p.train(
    rows, target="y", test=clew.holdout(0.5),
    search=clew.random(metric="loss", trials=2, max_steps=3),
    space={"rate": clew.uniform(0.1, 0.9)},
    trials=clew.trials(restarts=1, keep=clew.keep(best=0, trial_best=0, trial_latest=1)),
)
def model(data, trial):
    before = trial.restore()
    state = getattr(before, "state", [])
    for step in trial.steps():
        state = [*state, step]
        trial.report(step, loss=trial.params.rate / step)
        trial.log_text("notes", f"step {step}")
    found = DummyClassifier().fit(data.select("x").to_pandas(), data["y"].to_numpy())
    found.state = state
    return found
"""
ROWS = b"x,y\n" + b"".join(b"%d,%d\n" % (n, n % 2) for n in range(40))


@pytest.fixture
def clew(tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "p.py").write_text(PIPELINE)
    workspace = open_workspace(Settings(home=tmp_path / ".clew", workers=2), create=True)
    yield workspace
    workspace.close()


def newest(clew: Any) -> Any:
    return clew.experiment(clew.experiments()[0].id)


def test_a_search_is_forked_continued_and_pruned(clew: Any, tmp_path: Path) -> None:
    clew.apply(tmp_path / "p.py")
    clew.put("p/rows", {"/rows.csv": ROWS})
    clew.wait()
    first = newest(clew)
    best = clew.trial(first.experiment.best_trial)
    assert [file.path for file in best.files] == [f"notes/{n}.txt" for n in (1, 2, 3)]
    assert clew.trial_file(best.trial.id, "notes/2.txt") == b"step 2"

    forked = clew.fork(
        first.experiment.id,
        space={"rate": 0.25},
        search={"trials": 3, "max_steps": 2},
        reason="smaller",
    )
    clew.wait(forked)
    other = newest(clew)
    assert (other.experiment.global_id, other.experiment.trials) == (forked, 3)
    assert [trial.params for trial in other.trials] == [{"rate": 0.25}] * 3
    assert {trial.step for trial in other.trials} == {2}
    assert clew.models("p/model")[0].global_id == forked

    longer = clew.continue_trial(best.trial.id, steps=5)
    clew.wait(longer)
    goes_on = newest(clew)
    (trial,) = goes_on.trials
    assert (trial.step, trial.params, trial.seed) == (5, best.trial.params, best.trial.seed)
    assert [point.step for point in goes_on.points] == [4, 5]
    assert clew.models("p/model")[0].trial == trial.id

    nothing = Keep(best=0, trial_best=0, trial_latest=0)
    pruned = clew.prune(first.experiment.id, nothing)
    assert [one.trial for one in pruned.kept] == [best.trial.id]
    reasons = " ".join(pruned.kept[0].kept_for)
    assert "p/model@1" in reasons
    assert "warm start of experiment" in reasons
    gone = next(t.id for t in first.trials if t.id != best.trial.id)
    for wrong, code in (
        (lambda: clew.continue_trial(gone, steps=9), "trial.no_checkpoint"),
        (lambda: clew.continue_trial(best.trial.id, steps=3), "trial.steps"),
        (lambda: clew.fork(first.experiment.id, search={"trails": 3}), "search.invalid"),
        (lambda: clew.fork(first.experiment.id, space={"rate": {"kind": 1}}), "space.invalid"),
        (lambda: clew.pause(best.trial.id), "trial.ended"),
    ):
        with pytest.raises(ClewError) as refused:
            wrong()
        assert refused.value.code == code
    assert len(clew.experiments()) == 3
