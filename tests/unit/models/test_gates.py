"""Versions are judged on frozen rows, blessed or refused with evidence, and never silently."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from clew.base.errors import ClewError, Conflict, Invalid, NotFound
from clew.base.ids import new_id
from clew.base.records import CodeRef
from clew.models import EvaluationDefinition, GateDefinition, TrainingRun, holdout
from clew.models.registry import sign

GATE = """
import numpy as np

def rules(candidate):
    candidate.at_least("roc_auc", 0.6)
    candidate.beats_champion("roc_auc")
    candidate.slices("carrier", metric="roc_auc", worst_gap=0.2, min_rows=50)
    candidate.latency(max_ms=1000)
    candidate.require("looks fine", len(candidate.predictions["label"]) == candidate.frame.height)

def broken(candidate):
    return candidate.frame["no such column"]

def wrong_metric(candidate):
    candidate.at_least("rmse", 1)

def says_no(candidate):
    return False

def says_no_in_numpy(candidate):
    return np.float64(0.1) > 0.5

def says_yes(candidate):
    return candidate.metrics["roc_auc"] > 0.5

def empty(candidate):
    candidate.metrics

def a_number(candidate):
    return candidate.metrics["roc_auc"]

def strict(candidate):
    candidate.at_least("roc_auc", 0.999)
    candidate.at_most("log_loss", 0.0001)
    candidate.slices("carrier", metric="roc_auc", worst_gap=0.0, min_rows=50)
"""


def fitted(frame: pl.DataFrame, names=("distance", "hour"), flipped: bool = False):
    target = 1 - frame["late"] if flipped else frame["late"]
    return LogisticRegression().fit(frame.select(names), target)


@pytest.fixture
def judged(house, flights):
    """Package, commit, judge and record a model; the pair (version, verdict)."""
    (house.project / "gate.py").write_text(GATE)

    def judge(model, data=None, function="rules", job=None):
        split = house.split(flights() if data is None else data)
        version = house.version(house.package(model, split))
        judgement = house.models.judge(
            version.id,
            gate=GateDefinition(
                target="late",
                function=CodeRef(snapshot="s", file="gate.py", name=function) if function else None,
            ),
            snapshot_dir=house.project,
            job=job or new_id(),
            global_id=version.global_id,
        )
        verdict = house.models.record(judgement)
        return house.models.get(version.id), verdict

    return judge


def check(verdict, name: str):
    return next(one for one in verdict.checks if one.name.startswith(name))


def test_the_first_model_has_nothing_to_beat_and_becomes_champion(house, flights, judged):
    version, verdict = judged(fitted(flights()))
    assert verdict.blessed
    assert verdict.champion is None
    assert "first model" in check(verdict, "beats_champion").reason
    assert (version.state, version.aliases, version.version) == ("blessed", ("champion",), 1)
    assert house.models.get("flights/model@champion").id == version.id
    assert house.models.blessed("flights/model@1")


def test_metrics_are_those_of_the_frozen_rows(house, flights, judged):
    model = fitted(flights())
    version, verdict = judged(model)
    test = house.repos.commit_by_id(version.test_commit)
    rows = pl.read_parquet(house.repos.read(test, "/test.parquet"))
    chances = model.predict_proba(rows.select("distance", "hour"))[:, 1]
    assert verdict.metrics["roc_auc"] == pytest.approx(roc_auc_score(rows["late"], chances))
    assert version.metrics == verdict.metrics


def test_a_worse_model_is_refused_and_the_champion_stays(house, flights, judged):
    champion, _ = judged(fitted(flights()))
    worse, verdict = judged(fitted(flights(), names=("hour",)))
    assert not verdict.blessed
    assert worse.state == "refused"
    assert verdict.champion == champion.id
    found = check(verdict, "beats_champion")
    assert not found.passed
    assert found.evidence["high"] < 0
    assert found.evidence["resamples"] == 1000
    assert house.models.champion("flights/model").id == champion.id
    assert not house.models.blessed(worse.id)


def test_an_equal_model_is_blessed_every_time(house, flights, judged):
    judged(fitted(flights()))
    for seed in (1, 2):
        rows = flights().sample(fraction=0.98, seed=seed)
        _, verdict = judged(fitted(rows))
        assert check(verdict, "beats_champion").passed, check(verdict, "beats_champion").reason


def test_a_verdict_shows_every_rule_that_failed(house, flights, judged):
    _, verdict = judged(fitted(flights()), function="strict")
    assert [one.passed for one in verdict.checks] == [False, False, False]
    slices = check(verdict, "slices")
    assert {one["value"] for one in slices.evidence["judged"]} == {"AA", "UA", "DL"}
    worst = min(slices.evidence["judged"], key=lambda one: one["metric"])
    assert slices.observed == pytest.approx(slices.evidence["overall"] - worst["metric"])
    report = json.loads(house.repos.read(house.repos.commit_by_id(verdict.commit), "/report.json"))
    assert len(report["checks"]) == 3
    assert len(report["charts"]["candidate"]["roc"]["true_positive_rate"]) <= 100
    predictions = pl.read_parquet(
        house.repos.read(house.repos.commit_by_id(verdict.commit), "/predictions.parquet")
    )
    assert predictions.columns[:2] == ["truth", "candidate.label"]


def test_a_gate_that_raises_judges_nothing(house, flights, judged):
    for function, message in [("broken", "no such column"), ("wrong_metric", "roc_auc")]:
        with pytest.raises(ClewError, match=message):
            judged(fitted(flights()), function=function)
    assert house.models.verdicts() == []
    assert {one.state for one in house.models.versions()} == {"candidate"}


def test_a_gate_that_returns_false_refuses(house, flights, judged):
    _, verdict = judged(fitted(flights()), function="says_no")
    assert [(one.name, one.passed) for one in verdict.checks] == [("says_no", False)]


def test_without_a_gate_every_model_is_blessed_and_says_so(house, flights, judged):
    _, verdict = judged(fitted(flights()), function=None)
    assert verdict.blessed
    assert verdict.checks[0].name == "no gate"


def test_the_digest_signs_the_whole_verdict(house, flights, judged):
    _, verdict = judged(fitted(flights()), function=None)
    kept = house.models.verdict(verdict.id)
    assert kept == verdict
    assert sign(kept) == verdict.digest
    assert sign(replace(kept, blessed=False)) != verdict.digest
    assert sign(replace(kept, metrics={})) != verdict.digest


def test_a_judgement_is_recorded_once(house, flights, judged):
    split = house.split(flights())
    version = house.version(house.package(fitted(flights()), split))
    judgement = house.models.judge(
        version.id,
        gate=GateDefinition(target="late"),
        snapshot_dir=house.project,
        job="job-1",
        global_id=version.global_id,
    )
    first = house.models.record(judgement)
    assert house.models.record(judgement) == first
    assert len(house.models.verdicts("flights/model")) == 1
    assert len(house.models.alias_history("flights/model")) == 1
    kinds = [one.kind for one in house.db.events.after(0) if one.global_id == version.global_id]
    assert [one for one in kinds if not one.startswith("commit")] == [
        "model.created",
        "verdict.given",
        "alias.moved",
    ]


def test_a_version_is_created_once_for_a_commit(house, flights):
    package = house.package(fitted(flights()), house.split(flights()))
    version = house.version(package)
    assert house.models.create_version(package, version.commit) == version
    assert house.models.of_commit(version.commit) == version
    with pytest.raises(NotFound):
        house.models.of_commit("nothing")


def test_a_judgement_against_a_former_champion_is_not_recorded(house, flights, judged):
    split = house.split(flights())
    version = house.version(house.package(fitted(flights()), split))
    judgement = house.models.judge(
        version.id,
        gate=GateDefinition(target="late"),
        snapshot_dir=house.project,
        job="job-1",
        global_id=version.global_id,
    )
    house.models.alias("champion", version.id, by="somebody")
    with pytest.raises(Conflict, match="Judge it again"):
        house.models.record(judgement)
    assert house.models.get(version.id).state == "candidate"


def test_a_champion_that_cannot_run_on_new_columns_is_compared_by_its_record(
    house, flights, judged
):
    judged(fitted(flights()))
    renamed = flights().rename({"hour": "departure"})
    version, verdict = judged(fitted(renamed, names=("distance", "departure")), data=renamed)
    found = check(verdict, "beats_champion")
    assert found.passed
    assert "cannot be run" in found.reason
    assert "no column hour" in found.evidence["why_not"]
    assert version.state == "blessed"


@pytest.mark.parametrize(("function", "code"), [("empty", "empty"), ("a_number", "result")])
def test_a_gate_that_checks_nothing_judges_nothing(house, flights, judged, function, code):
    with pytest.raises(Invalid) as refused:
        judged(fitted(flights()), function=function)
    assert refused.value.code == f"gate.{code}"
    assert function in refused.value.message
    assert house.models.versions("flights/model")[0].state == "candidate"


def test_a_truth_that_a_gate_returns_is_a_rule_of_any_library(flights, judged):
    _, verdict = judged(fitted(flights()), function="says_no_in_numpy")
    assert not verdict.blessed
    _, verdict = judged(fitted(flights()), function="says_yes")
    assert verdict.blessed
    assert [check.name for check in verdict.checks] == ["says_yes"]


def test_an_override_moves_the_champion_only_where_a_person_says_so(house, flights, judged):
    good, _ = judged(fitted(flights()))
    worse, _ = judged(fitted(flights(), flipped=True))
    house.models.override(worse.id, by="ann", reason="a test in the field")
    assert house.models.champion("flights/model").id == good.id
    house.models.override(worse.id, by="ann", reason="the champion had seen a leak", champion=True)
    assert house.models.champion("flights/model").id == worse.id
    move = house.models.alias_history("flights/model")[0]
    assert (move.moved_by, move.reason) == ("ann", "the champion had seen a leak")
    _, verdict = judged(fitted(flights()))
    assert verdict.champion == worse.id


def test_an_override_needs_a_name_and_a_reason_and_leaves_the_verdict(house, flights, judged):
    version, refused = judged(fitted(flights()), function="says_no")
    for by, reason in [("", "because"), ("ann", "  ")]:
        with pytest.raises(Invalid, match="person"):
            house.models.override(version.id, by=by, reason=reason)
    verdict = house.models.override(version.id, by="ann", reason="known data fault")
    assert (verdict.overridden_by, verdict.blessed) == ("ann", False)
    assert verdict.checks == refused.checks
    assert house.models.get(version.id).state == "overridden"
    assert house.models.blessed(version.id)
    assert house.models.verdict(refused.id) == refused
    assert house.models.champion("flights/model") is None


def test_aliases_move_and_their_history_stays(house, flights, judged):
    first, _ = judged(fitted(flights()), function=None)
    second, _ = judged(fitted(flights()), function=None)
    house.models.alias("challenger", "flights/model@1", by="ann", reason="to compare")
    assert house.models.get("flights/model@challenger").id == first.id
    assert house.models.get("flights/model@2").aliases == ("champion",)
    moves = [(m.alias, m.version) for m in house.models.alias_history("flights/model")]
    assert moves == [
        ("challenger", first.id),
        ("champion", second.id),
        ("champion", first.id),
    ]
    for ref in ("flights/model@9", "flights/model@nobody", "zzzz", first.id[:3]):
        with pytest.raises(NotFound):
            house.models.get(ref)


def test_lineage_leads_from_the_verdict_to_the_features(house, flights, judged):
    version, verdict = judged(fitted(flights()), function=None)
    nodes, _ = house.lineage.walk(verdict.id, "up")
    kinds = {node.kind for node in nodes}
    assert {"model_version", "commit"} <= kinds
    assert version.id in {node.id for node in nodes}
    assert version.test_commit in {node.id for node in nodes}


def test_splitting_again_finds_the_frozen_rows(house, flights):
    first = house.split(flights())
    again = house.split(flights())
    assert again.test_commit == first.test_commit
    assert again.train_tree == first.train_tree
    more = house.split(pl.concat([flights(), flights(rows=100, first_day=500)]))
    assert more.test_commit == first.test_commit
    assert more.train_rows == first.train_rows + 100


def test_rows_written_before_a_crash_are_only_found_when_committed(house, flights):
    features = house.features(flights())
    definition = {"fraction": 0.3, "by": "day"}
    payload = {"paths": None, "definition": definition, "target": "late", "frozen": ""}
    before = house.models._work("split", {**payload, "tree": features.tree}, "m", lambda: False)
    assert house.models._standing("flights/model", "main") is None
    split = house.split(flights())
    assert house.repos.commit_by_id(split.test_commit).tree == before["test"]


def test_another_holdout_than_the_frozen_one_is_refused(house, flights):
    house.split(flights())
    changed = EvaluationDefinition(target="late", test=holdout(0.5, by="day"))
    with pytest.raises(Invalid, match="frozen") as caught:
        house.models.split("flights/model", house.features(flights()), changed, global_id=new_id())
    assert caught.value.code == "holdout.changed"


@pytest.mark.parametrize("missing", ["features", "labels"])
def test_a_missing_target_is_told_before_the_search_also_with_a_repo_as_the_test_set(
    house, flights, missing
):
    house.repos.create("flights/labels")
    rows = flights(50)
    labels = rows.drop("late") if missing == "labels" else rows
    house.repos.commit("flights/labels", {"/a.csv": labels.write_csv().encode()})
    features = house.features(rows.drop("late") if missing == "features" else rows)
    evaluation = EvaluationDefinition(target="late", test="flights/labels@main")
    with pytest.raises(Invalid, match="no column 'late'") as caught:
        house.models.split("flights/model", features, evaluation, global_id=new_id())
    assert caught.value.code == "model.target"


def test_a_repo_can_be_the_test_set(house, flights):
    house.repos.create("flights/labels")
    test = house.repos.commit("flights/labels", {"/a.csv": flights(50).write_csv().encode()})
    evaluation = EvaluationDefinition(target="late", test="flights/labels@main")
    features = house.features(flights())
    split = house.models.split("flights/model", features, evaluation, global_id=new_id())
    assert (split.test_commit, split.train_tree) == (test.id, features.tree)
    package = house.package(fitted(flights()), split, evaluation=evaluation)
    version = house.version(package)
    judgement = house.models.judge(
        version.id,
        gate=GateDefinition(target="late"),
        snapshot_dir=house.project,
        job="j",
        global_id="g",
    )
    assert judgement.blessed
    assert np.isfinite(judgement.metrics["roc_auc"])


def test_a_target_that_no_row_has_is_refused_before_anything_is_trained_or_frozen(house, flights):
    wrong = EvaluationDefinition(target="nope", test=holdout(0.3, by="day"))
    with pytest.raises(Invalid) as raised:
        house.models.split("flights/model", house.features(flights()), wrong, global_id=new_id())
    assert raised.value.code == "model.target"
    assert house.split(flights()).train_rows


def test_a_training_that_returns_no_model_says_so(house, flights):
    run = TrainingRun(
        model="flights/model", job=new_id(), global_id=new_id(), features="c", trial="t",
        params={}, seed=7,
    )  # fmt: skip
    evaluation = EvaluationDefinition(target="late", test=holdout(0.3, by="day"))
    with pytest.raises(Invalid) as raised:
        house.models.package(
            "", split=house.split(flights()), evaluation=evaluation, run=run, snapshot_dir=""
        )
    assert raised.value.code == "model.none"


def cutting(house, flights, definition):
    """Splits so many flights on a branch; the test commit."""
    evaluation = EvaluationDefinition(target="late", test=definition)

    def split(rows, branch="main", **more):
        features = house.features(flights(rows))
        return house.models.split(
            "flights/model", features, evaluation, global_id=new_id(), branch=branch, **more
        )

    return split


def test_what_a_training_on_a_branch_adds_to_the_test_set_is_of_the_branch(house, flights):
    split = cutting(house, flights, holdout(0.3, by="day", grow=True))
    first = split(2000, "try").test_commit
    assert house.repos.commit_by_id(first).branch == "main", "the first cut is everybody's"
    assert split(2000, "try").test_commit == split(2000).test_commit == first
    tried = split(4000, "try").test_commit
    assert house.repos.head("flights/model.test").id == first
    assert house.repos.head("flights/model.test", "try").id == tried
    more = split(4000).test_commit
    assert house.repos.head("flights/model.test").id == more
    trees = {house.repos.commit_by_id(one).tree for one in (more, tried)}
    assert len(trees) == 1, "the same rows are the same test set everywhere"


def test_a_test_set_that_does_not_grow_is_the_same_on_every_branch(house, flights):
    split = cutting(house, flights, holdout(0.3, by="day"))
    first = split(2000, "try").test_commit
    assert split(4000, "try").test_commit == split(6000).test_commit == first
    assert house.repos.commit_by_id(first).branch == "main"


def test_what_was_learned_before_the_test_set_grew_is_found_again(house, flights):
    split = cutting(house, flights, holdout(0.3, by="day", grow=True))
    then = split(2000)
    split(4000)
    again = split(2000, test_commit=then.test_commit)
    assert (again.train_tree, again.test_commit) == (then.train_tree, then.test_commit)


def test_groups_of_a_first_cut_that_the_hash_did_not_choose_stay_where_they_are(house, flights):
    split = cutting(house, flights, holdout(0.999, by="day", grow=True))
    first = split(20)
    assert first.train_rows == 10, "one of two days is needed to learn from"
    assert split(40).train_rows == 10, "and is learned from for good"


def test_a_test_set_that_is_frozen_cannot_begin_to_grow(house, flights):
    cutting(house, flights, holdout(0.3, by="day"))(2000)
    with pytest.raises(Invalid, match="frozen") as caught:
        cutting(house, flights, holdout(0.3, by="day", grow=True))(4000)
    assert caught.value.code == "holdout.changed"
