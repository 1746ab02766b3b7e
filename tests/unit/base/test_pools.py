"""Resource pools are written as one line of text, and the default one has what is left."""

from __future__ import annotations

import pytest

from clew.base.errors import Invalid
from clew.base.pools import PoolSize, read_pools, with_default


def test_a_pool_is_its_processes_and_its_gpus() -> None:
    assert read_pools("train=cpu:2,gpu:0,gpu:GPU-5d1c; night=gpu:*;") == (
        PoolSize(name="train", cpus=2, gpus=("0", "GPU-5d1c")),
        PoolSize(name="night", cpus=1, gpus=("*",)),
    )
    assert read_pools("") == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("train", "'train' is no pool"),
        ("a/b=cpu:1", "'a/b=cpu:1' is no pool"),
        ("a=cpu:0", "'cpu:0' of the pool a"),
        ("a=cpu:1,cpu:2", "'cpu:2' of the pool a"),
        ("a=tpu:1", "'tpu:1' of the pool a"),
        ("a=cpu:1; a=cpu:1", "the pool a is there twice"),
        ("a=gpu:0; b=gpu:0", "the GPU 0 is there twice"),
    ],
)
def test_what_is_no_pool_is_refused_with_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_pools(text)
    assert refused.value.code == "settings.invalid"
    assert why in refused.value.message


def test_the_default_pool_has_what_the_others_leave_and_a_process_at_least() -> None:
    assert with_default((), 8) == (PoolSize(name="default", cpus=8, gpus=("*",)),)
    assert with_default(read_pools("a=cpu:3"), 8)[0] == PoolSize(
        name="default", cpus=5, gpus=("*",)
    )
    assert with_default(read_pools("a=cpu:9,gpu:*"), 8)[0] == PoolSize(name="default", cpus=1)
    assert with_default(read_pools("default=cpu:2"), 8) == (PoolSize(name="default", cpus=2),)
