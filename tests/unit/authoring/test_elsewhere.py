"""Where a step runs: what may be written, and that it never counts for results."""

import pytest

import clew
from clew.authoring.policies import policy_of
from clew.base.errors import Invalid
from clew.codecs import Spark


def test_resources_placement_and_spark_are_kept_as_written():
    how = {"resources": {"GPU": 1, "CPU": 2.5}, "placement": {"zone": "eu"}, "spark": "local[2]"}
    policy = policy_of("s", how, {}).policy
    assert policy.resources == (("CPU", 2.5), ("GPU", 1.0))
    assert policy.placement == (("zone", "eu"),)
    assert policy.spark == "local[2]"


@pytest.mark.parametrize(
    "how",
    [
        {"resources": {"CPU": -1}},
        {"resources": {"CPU": True}},
        {"resources": {"": 1}},
        {"resources": {"GPU": float("inf")}},
        {"resources": {"GPU": "1"}},
        {"placement": {"zone": 1}},
        {"placement": {"": "eu"}},
        {"spark": "http://there"},
    ],
)
def test_what_is_no_demand_is_refused_where_it_is_written(how):
    with pytest.raises(Invalid) as raised:
        policy_of("s", how, {})
    assert raised.value.code == "pipeline.definition"


def test_a_parameter_for_the_session_needs_no_input():
    class SparkSession: ...

    p = clew.Pipeline("one")
    rows = p.source("rows")

    @p.step(rows)
    def good(table: bytes, spark: SparkSession) -> bytes:
        return table

    with pytest.raises(Invalid):

        @p.step(rows)
        def bad(table: bytes, other: int) -> bytes:
            return table

    assert list(p.nodes) == ["rows", "good"]


@pytest.mark.parametrize("address", ["local", "local[2]", "local[*,3]", "spark://h:7077", "sc://h"])
def test_addresses_of_spark_are_its_own(address):
    assert Spark.is_address(address)
