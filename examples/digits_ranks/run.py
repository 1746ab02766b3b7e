"""Train the digits on whatever is here, and watch the memory of the GPUs while it goes on.

    python examples/digits_ranks/run.py [WORKERS]

Prints the GPUs that Clew sees, the losses, and what each GPU held before, at most, and after.
"""

import contextlib
import os
import sys
import tempfile
import threading
from pathlib import Path

import polars as pl
from sklearn.datasets import load_digits

import clew
from clew.base.settings import read_settings
from clew.sdk.connect import connect_embedded

HERE = Path(__file__).parent
MIB = 1 << 20


def main(workers):
    os.environ["DIGITS_WORKERS"] = str(workers)
    before = {gpu.uuid: gpu.used_bytes for gpu in clew.gpus()}
    for gpu in clew.gpus():
        print(f"GPU {gpu.index}: {gpu.name}, {gpu.memory_bytes // MIB} MiB")
    print(f"{len(before)} GPUs for {workers} ranks")
    most = dict(before)
    with tempfile.TemporaryDirectory() as directory, watching(most):
        train(Path(directory))
    for gpu in clew.gpus():
        rose, left = most[gpu.uuid] - before[gpu.uuid], gpu.used_bytes - before[gpu.uuid]
        print(f"GPU {gpu.index}: {rose // MIB} MiB more at most, {left // MIB} MiB more now")


def train(directory):
    connect_embedded(read_settings({}, directory), create=True).close()
    with contextlib.closing(clew.connect(directory=directory, working=True)) as verbs:
        verbs.apply(HERE / "digits.py")
        verbs.put("digits/images", {"/digits.parquet": table()})
        verbs.wait()
        for job in verbs.jobs(pipeline="digits"):
            print(f"{job.step}: {job.state} {job.error or ''}")
        for experiment in verbs.experiments():
            for point in verbs.experiment(experiment.id).points:
                print(f"step {point.step}: loss {point.metrics['loss']:.9f}")
            for trial in verbs.experiment(experiment.id).trials:
                print(verbs.trial(trial.id).log)


def table():
    found = load_digits()
    columns = {f"p{n}": found.data[:, n] for n in range(64)}
    with tempfile.TemporaryFile() as file:
        pl.DataFrame({**columns, "digit": found.target}).write_parquet(file)
        file.seek(0)
        return file.read()


@contextlib.contextmanager
def watching(most):
    """Note the most that each GPU holds until the block ends."""
    over = threading.Event()

    def watch():
        while most and not over.wait(0.2):
            for gpu in clew.gpus():
                most[gpu.uuid] = max(most[gpu.uuid], gpu.used_bytes)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else min(2, len(clew.gpus())) or 2)
