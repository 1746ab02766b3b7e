"""The ranks of one group on the nodes of a Ray cluster, started by Ray Train.

Knows Ray Train's worker group; what ranks do, and with whom they talk, is for the launcher, at
whose door they come in. Started by it as ``python -m clew.compute.ray_train`` with a
:class:`clew.compute.spreading.Travel` on standard input. It is a process of its own, and a driver
of Ray: what ends it, ends the ranks.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from typing import Any

import msgspec

from clew.compute.spreading import PROGRAM, Travel, at_home


def start_rank(config: dict[str, Any]) -> None:
    """What each worker of Ray Train runs: the process of its rank, until that has ended."""
    import ray  # noqa: PLC0415 - an extra, and slow to import
    import ray.train  # noqa: PLC0415 - as above

    travel = msgspec.msgpack.decode(config["travel"], type=Travel)
    rank = ray.train.get_context().get_world_rank()
    node = ray.get_runtime_context().get_node_id()
    with at_home(travel, rank, node, ray.util.get_node_ip_address()) as environment:
        process = subprocess.Popen(
            [sys.executable, *PROGRAM], stdin=subprocess.DEVNULL, env=environment
        )
        try:
            status = process.wait()
        finally:
            process.kill()
            process.wait()
    if status:
        raise RuntimeError(f"rank {rank} ended with {status}")


def main() -> None:
    """Join the cluster, have the ranks started, and wait for them."""
    travel = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Travel)
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    import ray  # noqa: PLC0415 - an extra, and slow to import
    from ray.train import FailureConfig, RunConfig, ScalingConfig  # noqa: PLC0415 - as above
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer  # noqa: PLC0415 - ditto

    logging.getLogger("ray").setLevel(logging.WARNING)
    ray.init(
        travel.address, namespace="clew", log_to_driver=False, logging_level="error",
        runtime_env={"env_vars": {"RAY_TRAIN_V2_ENABLED": "1"}},
    )  # fmt: skip
    options: dict[str, Any] = {"label_selector": travel.placement} if travel.placement else {}
    with tempfile.TemporaryDirectory(prefix="clew-train-") as place:
        DataParallelTrainer(
            start_rank,
            train_loop_config={"travel": msgspec.msgpack.encode(travel)},
            scaling_config=ScalingConfig(
                num_workers=travel.size,
                use_gpu=travel.resources.get("GPU", 0) > 0,
                resources_per_worker=travel.resources,
                **options,
            ),
            # who asked for the group begins it again, from its latest checkpoint
            run_config=RunConfig(
                name=travel.name, storage_path=place, failure_config=FailureConfig(max_failures=0)
            ),
        ).fit()
    ray.shutdown()


if __name__ == "__main__":
    main()
