"""The geometry of drawings: what must hold for any lineage and any experiment."""

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from clew.base.clock import now
from clew.base.records import (
    Edge,
    Experiment,
    ExperimentDetail,
    Explanation,
    Importance,
    MetricPoint,
    Node,
    Trial,
)
from clew.server.web.charts import HEIGHT, WIDTH, curves, parallel
from clew.server.web.graph import BOX_HEIGHT, BOX_WIDTH, draw
from clew.server.web.searching import bars, contour, history, pareto


def node(number):
    kind = ("commit", "job", "datum")[number % 3]
    return Node(kind=kind, id=f"n{number}", title=f"thing {number}", global_id="g")


numbers = st.integers(0, 30)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(numbers, numbers), max_size=60), st.sampled_from(["up", "down"]))
def test_any_graph_is_drawn_without_overlap_and_every_edge_leads_down(pairs, direction):
    ids = sorted({0, *(n for pair in pairs for n in pair)})
    edges = [Edge(source=f"n{a}", target=f"n{b}", label="x") for a, b in pairs]
    edges.append(Edge(source="elsewhere", target="n0", label="y"))
    drawing = draw(
        Explanation(
            subject=node(0),
            direction=direction,
            nodes=tuple(node(n) for n in ids if n),
            edges=tuple(edges),
        )
    )
    boxes = drawing.boxes
    assert sum(box.subject for box in boxes) == 1
    for index, one in enumerate(boxes):
        assert one.x + BOX_WIDTH <= drawing.width
        assert one.y + BOX_HEIGHT <= drawing.height
        for other in boxes[index + 1 :]:
            apart = abs(one.x - other.x) >= BOX_WIDTH or abs(one.y - other.y) >= BOX_HEIGHT
            assert apart, (one, other)
    for curve in drawing.curves:
        places = [float(value) for value in re.findall(r"-?[\d.]+", curve.path)]
        assert places[1] < places[-1]


def test_the_subject_is_on_top_and_its_sources_below():
    chain = [Edge(source=f"n{i + 1}", target=f"n{i}", label="made") for i in range(4)]
    drawing = draw(
        Explanation(
            subject=node(0),
            direction="up",
            nodes=tuple(node(i) for i in range(1, 5)),
            edges=tuple(chain),
        )
    )
    order = [box.full for box in sorted(drawing.boxes, key=lambda box: box.y)]
    assert [text.split()[2] for text in order] == ["0", "1", "2", "3", "4"]


def test_many_alike_are_one_box():
    nodes = tuple(Node(kind="file", id=f"f{i}", title=f"f{i}", global_id="") for i in range(5_000))
    edges = tuple(Edge(source=n.id, target="n0", label="read") for n in nodes)
    drawing = draw(Explanation(subject=node(0), direction="up", nodes=nodes, edges=edges))
    assert [box.title for box in drawing.boxes][-1] == "4997 more"
    assert len(drawing.boxes) == 5


def experiment(values, *, mode="max"):
    trials = tuple(
        Trial(id=f"t{i}", experiment="e", number=i, global_id="g", params={"a": 10.0**-i, "b": "x"},
              state="done", step=3, value=value, rung=0, checkpoint=None, seed=0)
        for i, value in enumerate(values)
    )  # fmt: skip
    points = tuple(
        MetricPoint(trial=t.id, step=s, metrics={"m": t.value}, at=now())
        for t in trials
        for s in (1, 2, 3)
    )
    about = Experiment(
        id="e", job="j", pipeline="p", step="s", global_id="g", state="done", searcher="random",
        metric="m", mode=mode, trials=len(trials), best_trial="t0", best_value=values[0],
        created_at=now(), finished_at=None,
    )  # fmt: skip
    return ExperimentDetail(experiment=about, trials=trials, points=points)


odd = st.floats(allow_nan=True, allow_infinity=True, width=32)


@settings(max_examples=80, deadline=None)
@given(st.lists(odd, min_size=1, max_size=12), st.sampled_from(["max", "min"]))
def test_any_values_stay_inside_the_chart(values, mode):
    detail = experiment(values, mode=mode)
    for chart in (curves(detail), parallel(detail)):
        for line in chart.lines if chart else ():
            for pair in line.points.split():
                x, y = map(float, pair.split(","))
                assert 0 <= x <= WIDTH
                assert 0 <= y <= HEIGHT


def test_what_is_no_number_is_left_out():
    detail = experiment([0.5, math.nan, math.inf])
    assert [line.trial for line in curves(detail).lines] == [0]
    assert curves(experiment([math.nan])) is None
    assert parallel(detail) is None


def test_the_best_trial_is_drawn_last_so_that_it_lies_on_top():
    chart = curves(experiment([0.9, 0.1, 0.5]))
    assert [line.best for line in chart.lines] == [False, False, True]
    assert chart.lines[-1].tone == 4


@pytest.mark.parametrize("mode", ["max", "min"])
def test_one_trial_that_went_astray_does_not_flatten_the_others(mode):
    sign = 1 if mode == "max" else -1
    values = [sign * (0.7 + i / 1000) for i in range(60)] + [-sign * 1e9]
    chart = curves(experiment(values, mode=mode))
    ends = [line.end[1] for line in chart.lines if line.trial < 60]
    assert max(ends) - min(ends) > 60


SHARES = [Importance(parameter="a", share=0.75), Importance(parameter="b", share=0.25)]


@settings(max_examples=60, deadline=None)
@given(st.lists(odd, min_size=1, max_size=12), st.sampled_from(["max", "min"]))
def test_the_charts_of_a_search_stay_inside_for_any_values(values, mode):
    detail = experiment(values, mode=mode)
    for chart in (history(detail), contour(detail, SHARES)):
        for dot in chart.dots if chart else ():
            assert 0 <= dot.x <= WIDTH
            assert 0 <= dot.y <= HEIGHT
        for field in chart.fields if chart else ():
            assert 0 <= field.tone <= 4


def test_the_history_shows_the_best_so_far():
    chart = history(experiment([0.5, 0.9, 0.7], mode="max"))
    heights = [float(pair.split(",")[1]) for pair in chart.line.split()]
    assert heights == sorted(heights, reverse=True)  # higher up is less in SVG
    assert len(chart.dots) == 3


def test_bars_are_as_long_as_their_shares():
    long, short = bars(SHARES)
    assert long.width == pytest.approx(3 * short.width)
    assert long.text == "75%"
    assert bars([]) == ()


def test_a_contour_needs_two_parameters_and_four_trials():
    assert contour(experiment([0.1, 0.2, 0.3]), SHARES) is None
    assert contour(experiment([0.1, 0.2, 0.3, 0.4]), SHARES[:1]) is None
    assert contour(experiment([0.1, 0.2, 0.3, 0.4]), SHARES) is not None


def test_the_front_is_drawn_through_the_trials_that_are_on_it():
    detail = experiment([0.1, 0.2, 0.3])
    points = tuple(
        replace(point, metrics={"m": point.metrics["m"], "n": -point.metrics["m"]})
        for point in detail.points
    )
    about = replace(detail.experiment, objectives={"m": "max", "n": "max"}, front=("t0", "t2"))
    chart = pareto(replace(detail, experiment=about, points=points))
    assert len(chart.line.split()) == 2
    assert sorted(dot.tone for dot in chart.dots) == [1, 4, 4]
    assert pareto(detail) is None
