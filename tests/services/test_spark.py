"""Steps on real Spark: a session of the worker's own, and one of a standalone cluster."""

import contextlib
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import clew
from clew.base.settings import read_settings
from clew.sdk.connect import connect_embedded

if importlib.util.find_spec("pyspark") is None:
    pytest.skip("pyspark is not installed: make test-services installs it", allow_module_level=True)
if shutil.which("java") is None:
    pytest.skip(
        "there is no Java: apt-get install openjdk-17-jre-headless", allow_module_level=True
    )

pytestmark = pytest.mark.timeout(600)  # a JVM for each worker
PIPELINE = """
import clew
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

p = clew.Pipeline("sparks")
rows = p.source("rows")


@p.step(rows, spark={address!r})
def summed(table: DataFrame) -> DataFrame:
    return table.groupBy("name").agg(F.sum("x").alias("x")).orderBy("name")


@p.step(rows.glob("/*.parquet"), per="file", spark={address!r})
def counted(one: bytes, spark: SparkSession) -> DataFrame:
    return spark.range(1).withColumn("at", F.lit(spark.conf.get("spark.master")))


@p.expect(summed)
def whole(t: clew.Table):
    t.column("x").not_null()
"""


@pytest.fixture
def at(tmp_path):
    """A workspace on files, in which user code runs in workers."""
    settings = read_settings({}, tmp_path)
    connect_embedded(settings, create=True).close()
    verbs = clew.connect(directory=tmp_path, working=True)
    yield verbs
    verbs.close()


def parquet(**columns):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


def run(verbs, directory, address):
    """Apply the pipeline, put two files, and give back what came out."""
    file = directory / "sparks.py"
    file.write_text(PIPELINE.format(address=address))
    verbs.apply(file)
    files = {
        "/a.parquet": parquet(name=["a", "b"], x=[1, 2]),
        "/b.parquet": parquet(name=["b", "c"], x=[30, 40]),
    }
    verbs.put("sparks/rows", files)
    verbs.wait()
    jobs = {job.step: job for job in verbs.jobs(pipeline="sparks")}
    assert {job.state for job in jobs.values()} == {"done"}, [job.error for job in jobs.values()]
    return {step: tables(verbs, f"sparks/{step}") for step in ("summed", "counted")}


def tables(verbs, repo):
    found = [one.path for one in verbs.ls(repo, recursive=True)]
    assert all(path.endswith(".parquet") for path in found)
    return [
        pq.read_table(pa.BufferReader(verbs.read(f"{repo}:{path}"))).to_pydict() for path in found
    ]


def test_a_step_reads_and_writes_spark_frames_on_a_session_that_ends_with_its_worker(at, tmp_path):
    found = run(at, tmp_path, "local[2]")
    assert found["summed"] == [{"name": ["a", "b", "c"], "x": [1, 32, 40]}]
    assert {place for one in found["counted"] for place in one["at"]} == {"local[2]"}
    family = psutil.Process().children(recursive=True)
    javas = [one for one in family if "java" in one.name()]
    assert javas
    at.close()
    _, alive = psutil.wait_procs(javas, timeout=60)
    assert not alive


PLAIN = """
import clew
from pyspark.sql import DataFrame

p = clew.Pipeline("plain")
rows = p.source("rows")


@p.step(rows, spark="local[1]")
def same(table: DataFrame) -> DataFrame:
    return table.orderBy("x")
"""


def test_files_are_one_table_as_for_all_libraries(at, tmp_path):
    (tmp_path / "plain.py").write_text(PLAIN)
    at.apply(tmp_path / "plain.py")
    fewer = pd.DataFrame({"x": [1.0, None, 3.0]}).dropna()
    sink = io.BytesIO()
    fewer.to_parquet(sink)

    def came(**files):
        at.put("plain/rows", {f"/{n}.parquet": one for n, one in files.items()}, replace=True)
        at.wait()
        job = at.jobs(pipeline="plain", limit=1)[0]
        return job.error or tables(at, "plain/same")

    assert came(a=sink.getvalue()) == [{"x": [1.0, 3.0]}], "where rows stood is no column"
    assert came(a=parquet(x=[1]), b=parquet(x=[0.5])) == [{"x": [0.5, 1.0]}]
    assert "the column x is int64 in /a.parquet and string in /b.parquet" in came(
        a=parquet(x=[1]), b=parquet(x=["one"])
    )


def test_without_java_the_job_says_what_to_install(tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "dirname", "env"):
        (programs / name).symlink_to(shutil.which(name))
    (programs / "python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    settings = read_settings({}, tmp_path)
    connect_embedded(settings, create=True).close()
    with contextlib.closing(clew.connect(directory=tmp_path, working=True)) as verbs:
        file = tmp_path / "sparks.py"
        file.write_text(PIPELINE.format(address="local[1]"))
        verbs.apply(file)
        verbs.put("sparks/rows", {"/a.parquet": parquet(name=["a"], x=[1])})
        verbs.wait()
        job = next(job for job in verbs.jobs(pipeline="sparks") if job.step == "summed")
        assert job.state == "failed"
        assert "no Java" in job.error
        assert "Install Java 17" in job.error


@pytest.fixture
def standalone(tmp_path):
    """A standalone cluster of Spark's own: a master and a worker, in processes of their own."""
    home = Path(importlib.util.find_spec("pyspark").origin).parent
    environ = os.environ | {
        "SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable,
        "SPARK_WORKER_DIR": str(tmp_path / "work"), "SPARK_LOCAL_DIRS": str(tmp_path / "local"),
    }  # fmt: skip

    def start(*arguments):
        return subprocess.Popen(
            [str(home / "bin" / "spark-class"), *arguments],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environ,
        )  # fmt: skip

    ports = ("--host", "127.0.0.1", "--port", "0", "--webui-port", "0")
    master = start("org.apache.spark.deploy.master.Master", *ports)
    address = next(m[0] for line in master.stderr if (m := re.search(r"spark://\S+:\d+", line)))
    worker = start(
        "org.apache.spark.deploy.worker.Worker", *ports, "--cores", "1", "--memory", "1g", address
    )
    next(line for line in worker.stderr if "Successfully registered" in line)
    yield address
    for process in (worker, master):
        process.terminate()
        process.stderr.close()
        process.wait(60)


def test_a_step_runs_on_a_cluster_that_it_names(at, tmp_path, standalone, monkeypatch):
    found = run(at, tmp_path, standalone)
    assert found["summed"] == [{"name": ["a", "b", "c"], "x": [1, 32, 40]}]
    assert {place for one in found["counted"] for place in one["at"]} == {standalone}
