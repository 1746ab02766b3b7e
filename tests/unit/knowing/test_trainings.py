"""Trainings and gates are as other steps: parameters, keys, and what they read undeclared."""

from __future__ import annotations

import pytest

from clew.base.errors import Invalid, NotFound

FLOW = """
import os
import random
import clew
from sklearn.dummy import DummyClassifier

p = clew.Pipeline("p")
raw = p.source("raw")
kind = p.parameter("kind", "prior")
floor = p.parameter("floor", 0.0)

@p.train(
    raw,
    target="y",
    test=clew.holdout(0.5),
    search=clew.random(metric="m", trials=2, max_steps=1),
    space={"a": clew.uniform(0, 1)}{allow}
)
def model(data, trial, kind, strategy="none"):
    os.environ.get("SHOP_REGION")
    trial.report(1, m=trial.params["a"])
    made = DummyClassifier(strategy=kind).fit(data.select("x").to_pandas(), data["y"].to_numpy())
    random.random()
    return made

@p.gate(model{gate})
def good(candidate, floor, metric):
    os.environ.get("SHOP_LIMITS")
    candidate.at_least(metric, floor)
"""
ROWS = "x,y\n" + "".join(f"{n},{n % 2}\n" for n in range(40))


def flow(allow="", gate=', parameters={"metric": "accuracy"}'):
    return FLOW.replace("{allow}", allow).replace("{gate}", gate)


@pytest.fixture(scope="module")
def trained(one_shop):
    one_shop.apply(flow())
    one_shop.clew.put("p/raw", {"/rows.csv": ROWS.encode()})
    one_shop.clew.wait()
    return one_shop


def reads(job):
    return {(one.kind, one.name) for one in job.undeclared}


def test_what_a_training_and_a_gate_read_undeclared_is_kept_with_the_line_and_in_the_lineage(
    trained,
):
    model, gate = trained.last("model"), trained.last("model.gate")
    assert (model.state, gate.state) == ("done", "done"), model.error
    assert {("random", "random (not seeded)"), ("env", "SHOP_REGION")} <= reads(model)
    assert reads(gate) == {("env", "SHOP_LIMITS")}
    (region,) = (one for one in model.undeclared if one.kind == "env")
    assert region.datums == 2  # both trials did
    assert region.where.startswith("flow.py:")
    told = {node.title for node in trained.clew.why(gate.id).nodes if node.kind == "undeclared"}
    assert {"env SHOP_LIMITS", "env SHOP_REGION"} <= told


def test_a_parameter_of_the_gate_judges_anew_and_trains_nothing(trained):
    trained.clew.wait(trained.clew.run("p", parameters={"floor": 2.0}))
    gate = trained.last("model.gate")
    assert (gate.state, trained.last("model").state) == ("refused", "done")
    assert [(c.kind, c.name, c.new) for c in trained.clew.why(gate.id).causes] == [
        ("parameter", "floor", "2.0")
    ]
    trained.clew.wait(trained.clew.run("p", parameters={"floor": 0.0}))


def test_a_parameter_of_the_training_trains_anew_and_an_earlier_value_is_known(trained):
    before = len(trained.clew.models("p/model"))
    trained.clew.wait(trained.clew.run("p", parameters={"kind": "most_frequent"}))
    assert trained.last("model").done
    assert len(trained.clew.models("p/model")) == before + 1
    (plan,) = trained.clew.plan(trained.directory / "flow.py", parameters={"kind": "prior"})
    assert [one.action for one in plan.datums if one.step == "model"] == ["skip"]
    trained.clew.wait(trained.clew.run("p", parameters={"kind": "prior"}))
    assert len(trained.clew.models("p/model")) == before + 1


def test_a_training_is_repeated_with_its_parameters(trained):
    assert trained.clew.reproduce(trained.last("model").id).verdict in {"equal", "identical"}


def test_what_is_allowed_or_depended_on_is_not_told(shop):
    allowed = ', allow=["random", "env:SHOP_*"]'
    shop.apply(flow(allowed, ', parameters={"metric": "accuracy"}, depends_on="env:SHOP_LIMITS"'))
    shop.clew.put("p/raw", {"/rows.csv": ROWS.encode()})
    shop.clew.wait()
    assert reads(shop.last("model")) == set()
    assert reads(shop.last("model.gate")) == set()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (flow(", python=3.12"), 'python="3.12"'),
        (flow(", requirements=5"), "a list of packages"),
        (flow(', requirements=["numpy", 5]'), "a list of packages"),
        (flow(gate=""), "parameters"),
        (flow(gate=', parameters={"metric": print}'), "not plain"),
        (flow(', parameters={"strength": 1}'), "no parameter 'strength'"),
    ],
)
def test_what_a_training_or_a_gate_cannot_be_given_is_said_when_it_is_applied(one_shop, text, said):
    with pytest.raises(Invalid) as wrong:
        one_shop.clew.plan(
            one_shop.write({"wrong.py": text, "flow.py": flow()}).with_name("wrong.py")
        )
    assert said in str(wrong.value)


DRAWN = """
import os
import random
import clew
from sklearn.linear_model import SGDClassifier

p = clew.Pipeline("drawn")
rows = p.source("rows")
SEEDED = True

@p.train(rows, target="y", test=clew.holdout(0.5))
def model(data, trial):
    seed = trial.seed % 1000 if SEEDED else None
    x, y = data.select("x").to_numpy(), data["y"].to_numpy()
    for step in trial.steps():
        trial.report(step, m=random.Random(seed).random())
    return SGDClassifier(random_state=seed).fit(x, y)

@p.gate(model)
def good(candidate):
    candidate.at_least("accuracy", 0.0)
"""


def test_a_training_is_repeated_on_the_test_set_of_then_and_freezes_none(shop):
    shop.apply(DRAWN)
    shop.clew.put("drawn/rows", {"/rows.csv": ROWS.encode()})
    shop.clew.wait()
    first = shop.last("model")
    frozen = shop.clew.commit("drawn/model.test@main")
    wider = ROWS.replace("x,y", "x,z,y").replace(",", ",7,").replace("x,7,z,7,y", "x,z,y")
    shop.clew.put("drawn/rows", {"/rows.csv": wider.encode()})  # other columns: frozen anew
    shop.clew.wait()
    later = shop.clew.commit("drawn/model.test@main")
    assert later.id != frozen.id
    found = shop.clew.reproduce(first.id)
    assert (found.verdict, found.found) == ("identical", found.expected)
    assert found.test_commit == frozen.id
    assert shop.clew.commit("drawn/model.test@main").id == later.id


def test_a_training_is_repeated_by_the_name_of_its_version_too(shop):
    shop.apply(DRAWN)
    shop.clew.put("drawn/rows", {"/rows.csv": ROWS.encode()})
    shop.clew.wait()
    version = shop.clew.model("drawn/model@champion")
    for ref in ("drawn/model@1", "drawn/model@champion", version.id):
        found = shop.clew.reproduce(ref)
        assert (found.job, found.verdict) == (shop.last("model").id, "identical")
    with pytest.raises(NotFound) as unknown:
        shop.clew.reproduce("drawn/model@9")
    assert unknown.value.code == "ref.unknown"


def test_a_training_whose_steps_take_over_a_second_is_repeated_as_well(shop):
    """It asks now and then whether to pause, which nobody answered."""
    slow = DRAWN.replace("import os\n", "import os\nimport time\n")
    shop.apply(slow.replace("    for step in", "    time.sleep(1.1)\n    for step in"))
    shop.clew.put("drawn/rows", {"/rows.csv": ROWS.encode()})
    shop.clew.wait()
    found = shop.clew.reproduce(shop.last("model").id)
    assert (found.verdict, found.error) == ("identical", "")


def test_a_plan_takes_a_training_whose_rows_are_not_known_yet_for_one_run(shop):
    """However many steps its search may take: what it took before is the time of all of them."""
    clean = "@p.step(rows)\ndef clean(rows):\n    return rows\n\n@p.train(clean,"
    shop.apply(DRAWN.replace("@p.train(rows,", clean))
    shop.clew.put("drawn/rows", {"/rows.csv": ROWS.encode()})
    shop.clew.wait()
    other = clean.replace("return rows", "return rows.head(39)")
    (plan,) = shop.clew.plan(shop.write(DRAWN.replace("@p.train(rows,", other)))
    cost = {one.step: one for one in plan.costs}["model"]
    assert (cost.sure, cost.run, cost.skip) == (False, 1, 0)
    assert cost.total_s == cost.each_s


def test_where_a_training_differs_it_is_said_from_where_on_and_by_how_much_on_the_test_rows(shop):
    shop.apply(DRAWN.replace("SEEDED = True", "SEEDED = False"))
    shop.clew.put("drawn/rows", {"/rows.csv": ROWS.encode()})
    shop.clew.wait()
    found = shop.clew.reproduce(shop.last("model").id)
    assert found.verdict == "different"
    assert [(one.path, one.kind) for one in found.files] == [("/model.pkl", "changed")]
    assert found.files[0].offset is not None
    assert {"m", "test accuracy"} <= {one.name for one in found.metrics}
    assert all(one.new is not None for one in found.metrics)
    assert found.reasons[0] == "it went another way from step 1 on (m)"
