"""What a user's file may say: whatever would be lost in silence is refused while it is written."""

import pytest

import clew
from clew.authoring.manifest import _training, describe
from clew.base.errors import Invalid


def identity(x):
    return x


def both(x, y):
    return x, y


def any_number(*x):
    return x


@pytest.fixture
def pipeline():
    return clew.Pipeline("p")


@pytest.fixture
def source(pipeline):
    return pipeline.source("s")


def refusal(make) -> str:
    with pytest.raises(Invalid) as raised:
        make()
    assert raised.value.code == "pipeline.definition"
    assert raised.value.hint
    return raised.value.message


def test_a_decorator_without_inputs_is_refused_and_not_lost(pipeline):
    assert "@step was put on identity" in refusal(lambda: pipeline.step(identity))
    assert pipeline.nodes == {}


def test_an_input_that_is_none_is_refused_before_the_function_is_seen(pipeline):
    assert "'s' is not an input" in refusal(lambda: pipeline.step("s"))


def test_names_say_what_they_would_name(pipeline, source):
    assert "a pipeline" in refusal(lambda: clew.Pipeline("a b"))
    assert "a source" in refusal(lambda: pipeline.source("a/b"))
    assert "a step" in refusal(lambda: pipeline.step(source)(lambda x: x))


def test_parameters_are_those_of_the_function(pipeline, source):
    wrong = pipeline.step(source, parameters={"z": 1})
    assert "no parameter 'z'" in refusal(lambda: wrong(both))
    first = pipeline.step(source, parameters={"x": 1})
    assert "no parameter 'x' after its inputs" in refusal(lambda: first(both))
    assert pipeline.step(source, parameters={"y": 1})(both).name == "both"


def test_parameters_are_plain_values(pipeline, source):
    assert "'y' is a object" in refusal(lambda: pipeline.step(source, parameters={"y": object()}))


def test_a_function_names_each_of_its_parameters(pipeline, source):
    assert "any_number takes *x" in refusal(lambda: pipeline.step(source)(any_number))
    assert "has 2 parameters and gets 1" in refusal(lambda: pipeline.step(source)(both))


def fit_rows(data):
    return data


def fit_trees(data, trees):
    return data, trees


def fit_in_any_order(data, trees, at: clew.Trial, depth=3):
    return data, trees, at, depth


def fit_for_nobody(data, run):
    return data, run


@pytest.mark.parametrize(
    ("function", "bound"),
    [(fit_rows, set()), (fit_trees, {"trees"}), (fit_in_any_order, {"trees", "depth"})],
)
def test_a_training_function_names_what_it_wants_behind_its_rows(pipeline, source, function, bound):
    pipeline.parameter("trees", default=30)
    pipeline.parameter("depth", default=2)
    training = pipeline.train(source, target="y", test=clew.holdout(0.2))(function)
    assert set(training.options.parameters) == bound
    assert [one.parameter for one in training.inputs] == ["data"]


def test_what_nobody_has_said_of_a_holdout_changes_no_key():
    def said(holdout):
        pipeline = clew.Pipeline("p")
        rows = pipeline.source("rows")
        training = pipeline.train(rows, target="y", test=holdout)(fit_rows)
        return _training(training, None)["evaluation"]["test"]

    assert said(clew.holdout(0.2)) == {"fraction": 0.2, "by": None}
    growing = clew.holdout(0.2, by="id", grow=True)
    assert said(growing) == {"fraction": 0.2, "by": "id", "grow": True}


def test_what_nothing_gives_a_training_function_is_told_where_it_is_defined(pipeline, source):
    wrong = pipeline.train(source, target="y", test=clew.holdout(0.2))
    assert "gets 1: nothing gives 'run'" in refusal(lambda: wrong(fit_for_nobody))


@pytest.mark.parametrize("limit", [{"retries": -1}, {"timeout_s": 0}, {"memory_bytes": -5}])
def test_limits_are_above_zero(pipeline, source, limit):
    assert "is no limit" in refusal(lambda: pipeline.step(source, **limit))


def test_two_pipelines_of_one_name_are_refused(tmp_path):
    (tmp_path / "twin.py").write_text(
        "import clew\np = clew.Pipeline('a')\nq = clew.Pipeline('a')\n"
    )
    payload = {"snapshot": "", "directory": str(tmp_path), "file": "twin.py"}
    assert "two pipelines named 'a'" in refusal(lambda: describe(payload, None))
