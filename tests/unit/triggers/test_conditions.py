"""The grammar over time: commits, amounts, schedules, queries, and, or, windows, cool-downs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import clew
from clew.base.errors import Invalid
from clew.triggers import Action, Trigger, replay


def test_a_commit_on_another_branch_or_repo_is_no_cause(bench):
    bench.when(clew.on_commit("shop/orders@main"))
    bench.emit("commit.finished", "c0", repo="shop/orders", branch="staging")
    bench.commit("c1", repo="shop/other")
    bench.commit("c2")
    assert bench.tick() == ["t: commit c2 on shop/orders@main"]


def test_amounts_count_since_the_trigger_last_fired(bench):
    bench.when(clew.amount("shop/orders", rows=100, files=3))
    bench.commit("c1", rows=60, files=1)
    assert bench.tick() == []
    assert "60 of 100 rows in shop/orders" in bench.room.info("t").progress
    bench.commit("c2", rows=60, files=1)
    assert len(bench.tick()) == 1
    assert "0 of 100 rows in shop/orders" in bench.room.info("t").progress
    for number in range(3):
        bench.commit(f"d{number}", rows=1, files=1)
    assert len(bench.tick()) == 1  # by files


def test_both_parts_are_needed_in_any_order_and_used_up_together(bench):
    bench.when(clew.on_commit("a/b") & clew.on_commit("c/d"))
    bench.commit("1", repo="a/b")
    assert bench.tick() == []
    bench.commit("2", repo="a/b")
    bench.commit("3", repo="c/d")
    assert bench.tick() == ["t: commit 2 on a/b@main and commit 3 on c/d@main"]
    bench.commit("4", repo="c/d")
    assert bench.tick() == []


def test_one_of_several_parts_is_enough(bench):
    bench.when(clew.on_commit("a/b") | (clew.on_commit("c/d") & clew.on_commit("e/f")))
    bench.commit("1", repo="c/d")
    assert bench.tick() == []
    bench.commit("2", repo="a/b")
    assert len(bench.tick()) == 1
    bench.commit("3", repo="e/f")  # what was counted went with the firing
    assert bench.tick() == []


def test_a_window_forgets_what_is_too_old(bench):
    bench.when((clew.on_commit("a/b") & clew.on_commit("c/d")).within("1h"))
    bench.commit("1", repo="a/b")
    bench.tick()
    bench.pass_s(3601)
    bench.commit("2", repo="c/d")
    assert bench.tick() == []
    bench.pass_s(3599)
    bench.commit("3", repo="a/b")
    assert bench.tick() == ["t: commit 3 on a/b@main and commit 2 on c/d@main"]


def test_windows_hold_for_their_own_part_of_a_condition(bench):
    inner = (clew.on_commit("a/b") & clew.on_commit("c/d")).within("1m")
    bench.when(inner | clew.on_commit("e/f"))
    bench.commit("1", repo="a/b")
    bench.pass_s(61)
    bench.commit("2", repo="c/d")
    assert bench.tick() == []
    bench.commit("3", repo="e/f")
    assert len(bench.tick()) == 1


def test_an_amount_and_a_schedule_within_a_minute_fire_at_the_instant_alone(bench):
    condition = (clew.schedule("0 5 * * *") & clew.amount("shop/orders", rows=10)).within("1m")
    bench.when(condition)
    bench.commit("1", rows=4)
    bench.now = datetime(2024, 5, 2, 5, 0, tzinfo=UTC)
    assert bench.tick() == []
    bench.now = datetime(2024, 5, 2, 9, 0, tzinfo=UTC)
    bench.commit("2", rows=10)
    assert bench.tick() == []
    bench.now = datetime(2024, 5, 3, 5, 0, 1, tzinfo=UTC)
    assert len(bench.tick()) == 1


def test_the_cool_down_skips_and_says_so(bench):
    bench.when(clew.on_event("thing.happened"), cooldown_s=3600)
    bench.emit()
    bench.emit()
    assert len(bench.tick()) == 1
    found = [(one.state, "within 3600 s" in one.reason) for one in bench.room.firings()]
    assert found == [("skipped", True), ("done", False)]
    assert len(bench.db.events.after(0, ["trigger.fired"])) == 1
    bench.pass_s(3600)
    bench.emit()
    assert len(bench.tick()) == 1


def test_an_amount_that_is_reached_in_a_cool_down_fires_when_it_is_over(bench):
    bench.when(clew.amount("shop/orders", commits=2), cooldown_s=600)
    for name in "ab":
        bench.commit(name)
    assert len(bench.tick()) == 1
    for name in "cde":
        bench.commit(name)
    assert bench.tick() == []
    assert bench.room.info("t").held.startswith("until 2024-05-01 12:10:00")
    bench.pass_s(599)
    assert bench.tick() == []
    bench.pass_s(2)
    assert bench.tick() == ["t: commit e on shop/orders@main"]
    assert bench.room.info("t").held == ""


def test_a_limit_holds_over_a_sliding_span(bench):
    bench.when(clew.on_event("thing.happened"), limit_count=2, limit_s=3600)
    for _ in range(3):
        bench.emit()
        bench.pass_s(600)
    assert len(bench.tick()) == 2
    bench.pass_s(1801)
    bench.emit()
    assert len(bench.tick()) == 1
    assert "after 2 within 1h" in bench.room.firings()[1].reason


def test_a_clock_that_was_set_back_ends_a_cool_down(bench):
    bench.when(clew.on_event("thing.happened"), cooldown_s=60)
    bench.pass_s(86_400 * 365)
    bench.emit()
    assert len(bench.tick()) == 1
    bench.pass_s(-86_400 * 365)
    bench.emit()
    assert len(bench.tick()) == 1


# schedules ---------------------------------------------------------------------------------------


def test_a_schedule_fires_at_each_instant_once(bench):
    bench.when(clew.schedule("*/15 * * * *"))
    assert bench.tick() == []
    bench.pass_s(900)
    assert bench.tick() == ["t: the schedule's 2024-05-01T12:15:00Z"]
    assert bench.tick() == []
    bench.pass_s(900)
    assert len(bench.tick()) == 1


def test_instants_that_were_missed_are_one(bench):
    bench.when(clew.schedule("@hourly"))
    bench.pass_s(5 * 3600 + 60)
    assert bench.tick() == ["t: the schedule's 2024-05-01T17:00:00Z"]
    bench.room = bench.another()
    assert bench.tick() == []


def test_a_clock_that_goes_back_brings_no_instant_again(bench):
    bench.when(clew.schedule("@hourly"))
    bench.pass_s(3600)
    assert len(bench.tick()) == 1
    bench.pass_s(-30)
    assert bench.tick() == []
    bench.pass_s(31)
    assert bench.tick() == []
    bench.pass_s(3600)
    assert len(bench.tick()) == 1
    assert len(bench.room.firings()) == 2


def test_a_clock_that_was_years_ahead_does_not_stop_a_schedule(bench):
    bench.when(clew.schedule("@daily"))
    bench.pass_s(86_400 * 3650)
    assert len(bench.tick()) == 1
    bench.pass_s(-86_400 * 3650)
    assert bench.tick() == []
    bench.pass_s(86_400)
    assert len(bench.tick()) == 1


@pytest.mark.parametrize(
    ("day", "instants"),
    [
        # Zurich skips 02:00 to 03:00 on 31 March, and has it twice on 27 October.
        (datetime(2024, 3, 31, tzinfo=UTC), ["2024-03-31T01:00:00Z"]),
        (datetime(2024, 10, 27, tzinfo=UTC), ["2024-10-27T00:30:00Z"]),
    ],
)
def test_an_hour_that_a_clock_skips_or_repeats_fires_once(bench, day, instants):
    bench.now = day - timedelta(hours=2)
    bench.when(clew.schedule("30 2 * * *", tz="Europe/Zurich"))
    said = []
    for _ in range(24 * 4):
        bench.pass_s(900)
        said += bench.tick()
    assert [one.removeprefix("t: the schedule's ") for one in said] == instants


def test_a_paused_schedule_makes_up_for_nothing(bench):
    bench.when(clew.schedule("@hourly"))
    bench.room.pause("t")
    bench.pass_s(7300)
    assert bench.tick() == []
    bench.room.pause("t", paused=False)
    assert bench.tick() == []
    bench.pass_s(3600)
    assert len(bench.tick()) == 1


# queries and metrics ---------------------------------------------------------------------------


def test_a_query_fires_when_its_value_passes_the_bound_and_again_after_it_came_back(bench):
    bench.when(clew.on_query("select lag", url="env:X", above=10, every="1s"))
    said = []
    for value in (5, 11, 12, 9, None, 20):
        bench.pass_s(1)
        said.append(bench.poll(value))
    assert said == [[], ["t: the query is 11"], [], [], [], ["t: the query is 20"]]


def test_a_query_fires_for_new_rows_and_not_for_those_at_the_start(bench):
    bench.when(clew.on_query("select id from errors", every="1s"))
    said = []
    for rows in ((1, 2), (1, 2), (1, 2, 3), (3, 4, 5)):
        bench.pass_s(1)
        said.append(bench.poll(*rows))
    assert said == [[], [], ["t: the query has 1 new row"], ["t: the query has 2 new rows"]]


def test_a_query_fires_when_its_value_changes(bench):
    bench.when(clew.on_query("select max(id)", changes=True, every="1s"))
    said = []
    for value in (1, 1, 2):
        bench.pass_s(1)
        said.append(bench.poll(value))
    assert said == [[], [], ["t: the query went from 1 to 2"]]


def test_a_query_is_asked_no_more_often_than_it_says_and_its_error_is_shown(bench):
    bench.when(clew.on_query("select 1", above=0, every="1m"))
    asked = []

    def ask(_leaf, _since):
        asked.append(1)
        raise Invalid("source.query", "There is no table.")

    bench.room.poll(ask)
    bench.room.poll(ask)
    assert len(asked) == 1
    assert "There is no table." in bench.room.info("t").progress[-1]
    bench.pass_s(61)
    bench.room.poll(ask)
    assert len(asked) == 2


def test_a_live_metric_fires_when_it_passes_the_bound_and_is_given_what_it_left(bench):
    bench.when(clew.on_metric("error_rate", endpoint="e", above=0.1, every="1s"))
    given, said = [], []
    for turn, value in enumerate((None, 0.05, 0.2, None, 0.3, 0.0, 0.4)):

        def ask(_leaf, since, value=value, turn=turn):
            given.append(since)
            return [(value, {"turn": turn})]

        bench.pass_s(1)
        bench.room.poll(ask)
        said.append(bench.tick())
    assert given == [None, *({"turn": turn} for turn in range(6))]
    # too few requests (None) neither end nor begin anything
    told = [["t: error_rate is 0.2"], ["t: error_rate is 0.4"]]
    assert said == [[], [], told[0], [], [], [], told[1]]


def test_metrics_of_models_and_drift_are_compared_with_a_bound(bench):
    low = clew.on_metric("roc_auc", model="shop/model", below=0.8)
    bench.when(low | clew.on_drift("late", above=0.5))
    bench.emit("verdict.given", model="shop/model", metrics={"roc_auc": 0.9})
    bench.emit("verdict.given", model="shop/other", metrics={"roc_auc": 0.1})
    bench.emit("verdict.given", model="shop/model", metrics={})
    bench.emit("drift.reported", endpoint="late", value=0.4)
    assert bench.tick() == []
    bench.emit("verdict.given", model="shop/model", metrics={"roc_auc": 0.7})
    bench.emit("drift.reported", endpoint="late", value=0.6)
    assert len(bench.tick()) == 2


def test_webhooks_and_queues_are_causes(bench):
    bench.when(clew.on_webhook("shop/hook", action="paid") | clew.on_source("shop/clicks"))
    bench.emit("hook.received", "k1", source="shop/hook", action="sent")
    assert bench.tick() == []
    bench.emit("hook.received", "k2", source="shop/hook", action="paid")
    bench.emit("source.committed", "shop/clicks", items=5)
    assert len(bench.tick()) == 2


def test_a_source_is_named_as_it_is_or_by_its_name_in_the_pipeline(bench):
    shop = clew.Pipeline("shop")
    hook = shop.source("hook", clew.webhook())
    shop.trigger("node", when=clew.on_webhook(hook) | clew.on_source(hook), do=clew.notify())
    shop.trigger("name", when=clew.on_webhook("hook") | clew.on_source("hook"), do=clew.notify())
    whole = clew.on_webhook("shop/hook") | clew.on_source("shop/hook")
    shop.trigger("whole", when=whole, do=clew.notify())
    assert [one.when for one in shop.triggers] == [whole] * 3
    shop.trigger("other", when=clew.on_source("mine/hook"), do=clew.notify())
    assert shop.triggers[-1].when == clew.on_source("mine/hook")


@pytest.mark.parametrize(
    "write",
    [
        lambda: clew.on_event("trigger.fired"),
        lambda: clew.on_event("nonsense"),
        lambda: clew.on_source(""),
        lambda: clew.on_source(5),
        lambda: clew.on_webhook("hook", source="x"),
        lambda: clew.amount("a/b"),
        lambda: clew.amount("a/b", rows=-1),
        lambda: clew.schedule("every day"),
        lambda: clew.on_metric("auc", above=1),
        lambda: clew.on_metric("auc", endpoint="e", above=1),
        lambda: clew.on_metric("auc", model="a/b"),
        lambda: clew.on_query(""),
        lambda: clew.on_commit("a/b").within("1h"),
        lambda: clew.on_commit("a/b") & 5,
        lambda: clew.on_commit(5),
        lambda: clew.notify("https://x", command=["y"]),
        lambda: clew.notify("ftp://x"),
        lambda: clew.notify("https://x", secret="plain"),
        lambda: clew.rollback(""),
    ],
)
def test_what_can_never_be_met_or_done_is_refused_where_it_is_written(write):
    with pytest.raises(Invalid):
        write()


def test_conditions_read_as_they_were_written():
    nightly = clew.schedule("0 5 * * *", tz="Europe/Zurich") & clew.amount("a/b", rows=10_000)
    condition = nightly | clew.on_metric("roc_auc", model="a/m", below=0.8)
    assert condition.words() == (
        "(at 0 5 * * * Europe/Zurich and 10,000 rows new in a/b@main) or "
        "metrics.roc_auc below 0.8 at verdict.given (model=a/m)"
    )


# replays ---------------------------------------------------------------------------------------


def replayed(bench, trigger: Trigger, since, until):
    return replay(
        "shop",
        trigger,
        bench.db.events.after(0, limit=100_000),
        since=since,
        until=until,
        measure=bench.hands.measure,
        fired=bench.room.firings(trigger=trigger.name, limit=1000),
    )


def test_a_replay_says_when_another_trigger_would_have_fired(bench):
    start = bench.now
    bench.when(clew.amount("shop/orders", commits=2))
    for name in "abcde":
        bench.pass_s(60)
        bench.commit(name)
        bench.tick()
    do = (Action(kind="run", options={"pipeline": "shop", "step": ""}),)
    same = Trigger(name="t", when=clew.amount("shop/orders", commits=2), do=do)
    assert [one.kind for one in replayed(bench, same, start, bench.now)] == ["both", "both"]
    other = Trigger(name="t", when=clew.amount("shop/orders", commits=5), do=do)
    found = replayed(bench, other, start, bench.now)
    assert [one.kind for one in found] == ["only_fired", "only_fired", "only_replayed"]
    daily = Trigger(name="u", when=clew.schedule("* * * * *"), do=do)
    assert len(replayed(bench, daily, start, bench.now)) == 6


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.sampled_from(["a/b", "c/d"])),
        st.tuples(st.just("pass"), st.sampled_from([1, 50, 200, 2000])),
        st.tuples(st.just("tick"), st.just(0)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=25,
)
CONDITIONS = (
    clew.on_commit("a/b"),
    clew.amount("a/b", commits=2) | clew.on_commit("c/d"),
    (clew.on_commit("a/b") & clew.on_commit("c/d")).within("3m"),
    clew.amount("a/b", commits=3) & clew.on_commit("c/d"),
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(acts=ACTS, which=st.integers(0, 3), cooldown_s=st.sampled_from([0, 100]))
def test_what_fired_is_what_a_replay_says(make_bench, tmp_path_factory, acts, which, cooldown_s):
    """However the events came in turns, with restarts: and no cause is in two firings."""
    with pytest.MonkeyPatch.context() as patch:
        bench = make_bench(tmp_path_factory.mktemp("bench"), patch)
        try:
            start = bench.now
            bench.when(CONDITIONS[which], cooldown_s=cooldown_s)
            bench.tick()
            for number, (act, value) in enumerate(acts):
                if act == "commit":
                    bench.pass_s(0.001)
                    bench.commit(f"c{number}", repo=value, commits=1)
                elif act == "pass":
                    bench.tick()
                    bench.pass_s(value)
                    bench.tick()
                elif act == "restart":
                    bench.room = bench.another()
                else:
                    bench.tick()
            bench.tick()
            firings = [one for one in bench.room.firings(limit=1000) if one.state != "skipped"]
            causes = [cause for one in firings for cause in one.causes]
            assert len(causes) == len(set(causes))
            (trigger,) = bench.room.list()
            found = replayed(bench, trigger, start, bench.now)
            assert {one.kind for one in found} <= {"both"}
            assert len(found) == len(firings)
        finally:
            bench.close()
