"""Files by a cached task each, in one warm process: prints seconds for all, one more, none more."""

import hashlib
import sys
import time
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.task_runners import ThreadPoolTaskRunner


def of_content(_context, arguments):
    return hashlib.sha256(Path(arguments["file"]).read_bytes()).hexdigest()


@task(cache_policy=CacheKeyFnPolicy(cache_key_fn=of_content), persist_result=True)
def count(file: str) -> dict:
    return {"words": len(Path(file).read_text().split())}


@flow(task_runner=ThreadPoolTaskRunner(max_workers=2), log_prints=False)
def many(files: list[str]) -> int:
    return sum(one["words"] for one in count.map(files).result())


@task
def add(number: int) -> int:
    return number + 1


@flow
def three() -> int:
    return add(add(add(1)))


def seconds(act, *arguments) -> float:
    start = time.perf_counter()
    act(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    files = sorted(str(path) for path in Path(sys.argv[1]).iterdir())
    many(files[:1])  # starts its server
    every = seconds(many, files[1:-1])
    one = seconds(many, files)
    none = seconds(many, files)
    three()
    steps = sorted(seconds(three) for _ in range(5))[2]
    print("FIGURES", every / (len(files) - 2), one, none, steps)
