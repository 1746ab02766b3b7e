"""Spark frames and the session that they live in, one for each worker process, kept warm.

The one file of this room that knows pyspark.
"""

from __future__ import annotations

import importlib
import re
import tempfile
from collections.abc import Sequence
from typing import Any

from clew.base.columns import is_row_place
from clew.base.errors import ClewError, Unavailable
from clew.codecs.arrow import WRITTEN, read_table, schemas_on_disk, write_table
from clew.codecs.formats import explained, first_line, need, suffix_in
from clew.codecs.kinds import Kind, Place
from clew.repos import File

LOCAL = "local[*]"
_MASTERS = re.compile(r"local(\[[\w*,]+\])?|yarn|(spark|sc|k8s)://.+")
_SCANNED = {".parquet", ".csv", ".jsonl", ".ndjson"}
_QUIET = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}
_GENEROUS = {
    "spark.dynamicAllocation.enabled": "true",
    "spark.dynamicAllocation.shuffleTracking.enabled": "true",
    "spark.dynamicAllocation.shuffleTracking.timeout": "10s",
    "spark.dynamicAllocation.executorIdleTimeout": "5s",
    "spark.dynamicAllocation.cachedExecutorIdleTimeout": "30s",
}
"""On a cluster a warm session gives its executors back: else it would keep all cores for itself."""
_NO_JAVA = ("JAVA_GATEWAY_EXITED", "UnsupportedClassVersionError")


class Spark:
    """The session of this process: made when it is first asked for, ended with the process."""

    _address = ""
    _session: Any = None
    _made_for = ""

    @staticmethod
    def is_address(text: str) -> bool:
        """Whether a session can be asked for there: ``local[2]``, ``spark://…``, ``sc://…``."""
        return _MASTERS.fullmatch(text) is not None

    @staticmethod
    def is_asked_by(annotation: object) -> bool:
        """Whether a parameter is for the session itself, by its type or by what is written."""
        name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
        return str(name).rpartition(".")[2] == "SparkSession"

    @classmethod
    def use(cls, address: str) -> None:
        """From now on sessions are those of ``address``; '' is this machine, all cores."""
        cls._address = address

    @classmethod
    def session(cls) -> Any:
        """The session, with time in UTC.

        Raises:
            Unavailable: ``extra.missing``; ``spark.java`` where there is no Java for it;
                ``spark.unreachable``.
        """
        address = cls._address or LOCAL
        if cls._session is not None and cls._made_for == address and not _is_over(cls._session):
            return cls._session
        if cls._session is not None and not _is_over(cls._session):
            cls._session.stop()
        cls._session, cls._made_for = _make(address), address
        return cls._session


def _make(address: str) -> Any:
    need("pyspark", "spark")
    builder = importlib.import_module("pyspark.sql").SparkSession.builder.appName("clew")
    settings = dict(_QUIET)
    if address.startswith("local"):
        settings |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    elif not address.startswith("sc://"):
        settings |= _GENEROUS
    if not address.startswith("sc://"):
        settings["spark.sql.warehouse.dir"] = f"{tempfile.gettempdir()}/clew-spark-warehouse"
        settings = {"spark.master": address, **settings}
    try:
        remote = builder.remote(address) if address.startswith("sc://") else builder
        for name, value in settings.items():
            if not address.startswith("sc://") or name.startswith("spark.sql."):
                remote = remote.config(name, value)
        session = remote.getOrCreate()
        session.range(1).count()  # only now is it known whether anybody works there
    except ModuleNotFoundError as error:
        raise Unavailable(
            "extra.missing",
            f"Spark at {address} needs {error.name}, which is not installed.",
            hint='Install it: pip install "clew[spark]"',
        ) from error
    except Exception as error:
        raise _meaning(address, error) from error
    return session


def _meaning(address: str, error: Exception) -> ClewError:
    text = str(error)
    no_java = isinstance(error, FileNotFoundError) or any(word in text for word in _NO_JAVA)
    if no_java:
        return Unavailable(
            "spark.java",
            f"Spark at {address} cannot be started: there is no Java that it can use.",
            hint="Install Java 17 or newer where workers run, or set JAVA_HOME; see the log.",
        )
    return Unavailable(
        "spark.unreachable",
        f"There is no Spark at {address}: {first_line(error)}.",
        hint="Check spark= of the step, and the log of its job.",
    )


def _is_over(session: Any) -> bool:
    context = getattr(session, "_sc", None)
    if context is not None:
        return context._jsc is None
    return bool(getattr(session, "is_stopped", False))


def _read(files: Sequence[File], asked: str, place: Place) -> Any:
    """A frame over the files: on this machine they are scanned from disk, else they are sent."""
    session = Spark.session()
    suffixes = {suffix_in(file, asked) for file in files}
    near = Spark._made_for.startswith("local") and place.scratch is not None
    if len(suffixes) != 1 or not suffixes <= _SCANNED or not near:
        return session.createDataFrame(read_table(files, asked))
    suffix = suffixes.pop()
    on_disk = place.export(files)
    paths = [path.as_uri() for path in on_disk]
    if suffix == ".parquet":
        types = schemas_on_disk(files, on_disk)
        if any(one != types[0] for one in types):  # it would take those of one file for all
            return session.createDataFrame(read_table(files, asked))
    with explained(files[0], suffix):
        if suffix == ".parquet":
            frame = session.read.parquet(*paths)
            return frame.drop(*(name for name, kind in frame.dtypes if is_row_place(name, kind)))
        if suffix == ".csv":
            return session.read.csv(paths, header=True, inferSchema=True, multiLine=True)
        return session.read.json(paths)


def _write(frame: Any, suffix: str) -> bytes:
    return write_table(frame.toArrow(), suffix)


FRAME = Kind(suffix=".parquet", suffixes=WRITTEN, read=_read, write=_write)
