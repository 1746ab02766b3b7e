"""Calls of training: what is well formed is read here, everything else is MLflow's to answer."""

import json
import math

import pytest

from clew.server.mlflow.hot import read_hot, touches_kept

RUN = "0123456789abcdef0123456789abcdef"


def metric(**given):
    return json.dumps(
        {"run_id": RUN, "run_uuid": RUN, "key": "loss", "value": 0.5, "timestamp": 7} | given
    ).encode()


def test_a_metric_is_read_as_mlflow_stores_it():
    (row,) = read_hot("runs/log-metric", metric(step=3)).metrics
    assert (row.key, row.value, row.timestamp, row.step, row.run_uuid) == ("loss", 0.5, 7, 3, RUN)
    assert row.is_nan is False


@pytest.mark.parametrize(
    ("given", "stored", "is_nan"),
    [
        ("NaN", 0.0, True),
        ("Infinity", 1.7976931348623157e308, False),
        ("-Infinity", -1.7976931348623157e308, False),
        (3, 3.0, False),
    ],
)
def test_values_that_json_or_sql_cannot_say_are_stored_as_mlflow_does(given, stored, is_nan):
    (row,) = read_hot("runs/log-metric", metric(value=given)).metrics
    assert (row.value, row.is_nan) == (stored, is_nan)
    assert not math.isnan(row.value)


def test_whole_numbers_may_be_texts_as_protobuf_writes_them():
    (row,) = read_hot("runs/log-metric", metric(timestamp="1700000000000", step="-2")).metrics
    assert (row.timestamp, row.step) == (1_700_000_000_000, -2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": "a/../b"},
        {"key": "/a"},
        {"key": "."},
        {"key": "a//b"},
        {"key": "semi;colon"},
        {"key": "k" * 251},
        {"key": 7},
        {"value": "high"},
        {"value": None},
        {"value": True},
        {"timestamp": -1},
        {"timestamp": 1 << 63},
        {"step": "x"},
        {"run_id": "", "run_uuid": ""},
        {"run_id": "no/run"},
        {"model_id": "m-1"},
        {"dataset_name": "d"},
    ],
)
def test_what_is_wrong_or_goes_further_is_left_to_mlflow(wrong):
    assert read_hot("runs/log-metric", metric(**wrong)) is None


@pytest.mark.parametrize("body", [b"", b"[]", b"not json", b'{"key": "loss"}'])
def test_a_body_that_is_none_is_left_to_mlflow(body):
    for call in ("runs/log-metric", "runs/log-batch", "runs/log-parameter", "runs/set-tag"):
        assert read_hot(call, body) is None


def test_a_batch_is_read_whole_or_not_at_all():
    body = {
        "run_id": RUN,
        "metrics": [{"key": "a", "value": 1.0, "timestamp": 1, "step": 0}],
        "params": [{"key": "lr", "value": "0.1"}],
        "tags": [{"key": "team", "value": "x"}],
    }
    logged = read_hot("runs/log-batch", json.dumps(body).encode())
    assert [one.key for one in logged.metrics] == ["a"]
    assert logged.params == (("lr", "0.1"),)
    assert logged.tags == (("team", "x"),)
    body["metrics"].append({"key": "bad;", "value": 1.0, "timestamp": 1})
    assert read_hot("runs/log-batch", json.dumps(body).encode()) is None


def test_a_batch_beyond_mlflows_limits_is_mlflows_to_refuse():
    many = [{"key": f"p{i}", "value": "1"} for i in range(101)]
    assert read_hot("runs/log-batch", json.dumps({"run_id": RUN, "params": many}).encode()) is None


def test_the_name_of_a_run_is_no_mere_tag():
    body = {"run_id": RUN, "key": "mlflow.runName", "value": "x"}
    assert read_hot("runs/set-tag", json.dumps(body).encode()) is None


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("runs/set-tag", {"key": "clew.global_id", "value": "x"}),
        ("runs/delete-tag", {"key": "clew.context"}),
        ("runs/log-batch", {"tags": [{"key": "a"}, {"key": "clew.global_id", "value": "x"}]}),
    ],
)
def test_a_tag_of_clews_is_found_wherever_it_is_written(call, body):
    assert touches_kept(call, json.dumps(body).encode()).startswith("clew.")
    assert not touches_kept(call, json.dumps({"key": "mine", "value": "clew.x"}).encode())
