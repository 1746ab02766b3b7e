"""Differences between groups are those of fairlearn on the same rows.

fairlearn runs in a process of its own: this environment's, or the Python that the variable
CLEW_FAIRLEARN names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from clew.models.fairness import MEASURES, fairness, yes_or_no
from clew.models.metrics import METRICS, Scored

PYTHON = os.environ.get("CLEW_FAIRLEARN", sys.executable)
THEIRS = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np
from fairlearn import metrics as fair
from sklearn import metrics as sk
given = np.load(sys.argv[1])
truth, said, group = given["truth"], given["said"], given["group"]
how = {"sensitive_features": group}
frame = fair.MetricFrame(
    metrics={"accuracy": sk.accuracy_score, "recall": sk.recall_score, "f1": sk.f1_score,
             "selection": fair.selection_rate, "fpr": fair.false_positive_rate},
    y_true=truth, y_pred=said, **how)
print(json.dumps({
    "accuracy": frame.difference()["accuracy"],
    "recall": frame.difference()["recall"],
    "f1": frame.difference()["f1"],
    "ratio": fair.demographic_parity_ratio(truth, said, **how),
    "demographic_parity": fair.demographic_parity_difference(truth, said, **how),
    "equalized_odds": fair.equalized_odds_difference(truth, said, **how),
    "equal_opportunity": fair.equal_opportunity_difference(truth, said, **how),
    "by_group": frame.by_group["selection"].to_dict(),
}))
"""


@pytest.fixture(scope="module", params=[1, 2])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """The same rows, as ours and as fairlearn's numbers."""
    probe = subprocess.run([PYTHON, "-c", "import fairlearn"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip(f"{PYTHON} has no fairlearn: name one that has it in CLEW_FAIRLEARN")
    random = np.random.default_rng(request.param)
    group = random.choice(["a", "b", "c"], 900, p=[0.6, 0.3, 0.1])
    chance = random.random(900)
    truth = (random.random(900) < chance).astype(int)
    said = (chance + 0.15 * (group == "b") > 0.5).astype(int)
    file = tmp_path_factory.mktemp("fair") / "rows.npz"
    np.savez(file, truth=truth, said=said, group=group)
    done = subprocess.run(
        [PYTHON, "-c", THEIRS, str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    scored = Scored(
        task="binary",
        classes=("0", "1"),
        truth=truth.astype(float),
        labels=said.astype(float),
    )
    return scored, group, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("measure", MEASURES)
def test_a_difference_is_fairlearn_s(both, measure: str) -> None:
    scored, group, theirs = both
    found = fairness(yes_or_no(scored, ""), group, MEASURES[measure], 1)
    assert found.difference == pytest.approx(theirs[measure])
    if measure == "demographic_parity":
        assert found.ratio == pytest.approx(theirs["ratio"])
        rates = {one.value: one.rates["selection_rate"] for one in found.groups}
        assert rates == pytest.approx(theirs["by_group"])


@pytest.mark.parametrize("name", ["accuracy", "recall", "f1"])
def test_a_metric_by_group_is_that_of_a_metric_frame(both, name: str) -> None:
    scored, group, theirs = both
    metric = next(one for one in METRICS["binary"] if one.name == name)
    assert fairness(scored, group, (metric,), 1).difference == pytest.approx(theirs[name])
