"""A model version as a function of columns: in Polars, in DuckDB's SQL and in Spark.

Knows the verbs and how a model is loaded. The model is loaded in this process, so its pickle runs
here where no converted form serves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import Parameter, Signature
from typing import Any

from clew.base.errors import Invalid
from clew.base.verbs import Verbs
from clew.models import LoadedModel, load_model
from clew.sdk.connect import connect
from clew.sdk.spark_udfs import Carried, FilesOf, carried, column_of, once, spark_function
from clew.sdk.versions import load_version

_SQL = {
    "bool": "BOOLEAN", "float": "FLOAT", "double": "DOUBLE", "string": "VARCHAR",
    "int8": "TINYINT", "int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT",
    "uint8": "UTINYINT", "uint16": "USMALLINT", "uint32": "UINTEGER", "uint64": "UBIGINT",
    "date32[day]": "DATE", "time64[ns]": "TIME",
}  # fmt: skip
_MAIN = {"regression": "prediction", "binary": "probability"}


class Function:
    """A model version that columns can be given to. Not for several threads at once."""

    def __init__(
        self, model: LoadedModel, name: str, files: Mapping[str, bytes] | None = None
    ) -> None:
        self.model = model
        self._files = files or {}
        self.name = name
        """The version, ``model@3``."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that it takes, in their order; none of a model of a plain matrix."""
        named = self.model.signature.frame != "numpy"
        return tuple(one.name for one in self.model.signature.inputs) if named else ()

    def __call__(self, frame: Any) -> Any:
        """The answers for a frame of Polars or pandas, or for an array, by the name of the output.

        Raises:
            Invalid: ``input.columns``, ``input.type``.
        """
        return self.model.predict(frame)

    def polars(self, *columns: str, output: str = "") -> Any:
        """A Polars expression of one answer a row.

        Args:
            columns: The columns in the order of the inputs; those of the same names without it.
            output: ``label``, ``probability`` (of two classes, the default there) or
                ``prediction``.

        Raises:
            Invalid: ``udf.columns``, ``udf.output``.
        """
        import polars as pl  # noqa: PLC0415 - heavy, and few ask for it

        names = self._columns(columns)
        wanted = self._output(output)
        kind = {"text": pl.String, "whole": pl.Int64, "truth": pl.Boolean}.get(
            self._kind(wanted), pl.Float64
        )

        def answers(rows: Any) -> Any:
            frame = rows.struct.unnest()
            frame.columns = list(self.inputs or frame.columns)
            return pl.Series(self._answers(frame, wanted)).cast(kind)

        asked = pl.struct([pl.col(name).alias(f"_{at}") for at, name in enumerate(names)])
        return asked.map_batches(answers, return_dtype=kind, is_elementwise=True).alias(wanted)

    def duckdb(self, connection: Any, name: str = "predict", *, output: str = "") -> None:
        """Make it a function of a DuckDB connection: ``SELECT predict(a, b) FROM rows``.

        Arguments stand in the order of :attr:`inputs`; DuckDB hands them over some thousand rows
        at a time. ``output`` as for :meth:`polars`.

        Raises:
            Invalid: ``udf.output``.
        """
        import polars as pl  # noqa: PLC0415 - heavy, and few ask for it

        wanted = self._output(output)
        columns = self.model.signature.inputs
        if not self.inputs:
            kinds, names = ["DOUBLE"] * self.model.signature.width, self._columns(())
        else:
            kinds, names = [_sql(one.type) for one in columns], list(self.inputs)
        gives = {"text": "VARCHAR", "whole": "BIGINT", "truth": "BOOLEAN"}

        def answers(*values: Any) -> Any:
            frame = pl.DataFrame(
                {at: pl.from_arrow(one) for at, one in zip(names, values, strict=True)}
            )
            return pl.Series(self._answers(frame, wanted)).to_arrow()

        each = [Parameter(f"_{at}", Parameter.POSITIONAL_ONLY) for at in range(len(names))]
        vars(answers)["__signature__"] = Signature(each)  # DuckDB counts what a function takes
        connection.create_function(
            name,
            answers,
            kinds,
            gives.get(self._kind(wanted), "DOUBLE"),
            type="arrow",
            null_handling="special",
        )

    def spark(self, *columns: str, output: str = "") -> Any:
        """A column of Spark's of one answer a row; arguments as for :meth:`polars`.

        The model's files travel with it, and each executor process loads them once: executors need
        Clew and the packages of the model, and not the workspace.

        Raises:
            Invalid: ``udf.columns``, ``udf.output``.
            Unavailable: ``extra.missing`` without Spark.
        """
        return column_of(self.spark_function(output=output), self._columns(columns))

    def spark_function(self, *, output: str = "") -> Any:
        """The function itself: ``spark.udf.register("predict", f.spark_function())`` for SQL.

        Arguments stand in the order of :attr:`inputs`. Raises as :meth:`spark`.
        """
        wanted = self._output(output)
        told = carried(self._files, self.name)
        kind = self._kind(wanted)

        def answers(told: Carried, arrays: list[Any]) -> Any:
            return once(_of_carried, told).arrow(arrays, wanted, kind)

        return spark_function(told, kind, answers)

    def arrow(self, arrays: Sequence[Any], wanted: str, kind: str) -> Any:
        """One Arrow array of answers for one a column, in the order of the inputs."""
        import polars as pl  # noqa: PLC0415 - heavy, and few ask for it

        names = self._columns(())
        frame = pl.DataFrame(
            {name: pl.from_arrow(one) for name, one in zip(names, arrays, strict=True)}
        )
        found = pl.Series(self._answers(frame, wanted))
        if kind == "text":
            return (
                found.cast(pl.String).to_arrow(compat_level=pl.CompatLevel.oldest()).cast("string")
            )
        return found.cast({"whole": pl.Int64, "truth": pl.Boolean}.get(kind, pl.Float64)).to_arrow()

    def _answers(self, frame: Any, wanted: str) -> Any:
        if not frame.height:
            return []
        given = frame if self.inputs else frame.to_numpy()
        return self.model.predict(given)[wanted].tolist()

    def _columns(self, columns: Sequence[str]) -> list[str]:
        width = self.model.signature.width
        names = list(columns) or list(self.inputs) or [f"column_{at}" for at in range(width)]
        if len(names) != width:
            raise Invalid(
                "udf.columns",
                f"{self.name} takes {width} columns, and {len(names)} were given.",
                hint=f"They are {', '.join(self.inputs)}."
                if self.inputs
                else "Name one for each feature, in the order that it was trained on.",
            )
        return names

    def _output(self, output: str) -> str:
        task = self.model.signature.task
        there = {"regression": ("prediction",), "binary": ("probability", "label")}
        known = there.get(task, ("label",))
        if output and output not in known:
            raise Invalid(
                "udf.output",
                f"{self.name} gives no {output!r} for each row.",
                hint=f"Use {' or '.join(known)}.",
            )
        return output or _MAIN.get(task, "label")

    def _kind(self, wanted: str) -> str:
        if wanted != "label":
            return "number"
        kinds = {type(value) for value in self.model.recipe.classes}
        if kinds == {str}:
            return "text"
        return "truth" if kinds == {bool} else "whole" if kinds == {int} else "number"


def udf(model: str, workspace: Verbs | None = None) -> Function:
    """A model version as a function of columns, for Polars, DuckDB and Spark.

    Args:
        model: A version: ``model@champion``, ``model@3``, its id.
        workspace: Where it is; that of this directory, or of ``CLEW_URL``, by default.

    Raises:
        NotFound: ``model.unknown``.
        Unavailable: ``model.distribution`` where a package that it needs is missing here.
    """
    if workspace is not None:
        return _loaded(workspace, model)
    own = connect()
    try:
        return _loaded(own, model)
    finally:
        own.close()


def _loaded(verbs: Verbs, ref: str) -> Function:
    kept: dict[str, bytes] = {}
    version, model = load_version(verbs, ref, kept=kept)
    return Function(model, f"{version.model}@{version.version}", kept)


def _of_carried(told: Carried) -> Function:
    """The model of files that came with a function, where it is asked."""
    return Function(load_model(FilesOf(told), "", served=True), told.name)


def _sql(kind: str) -> str:
    if kind.startswith("decimal"):
        return "DOUBLE"
    return "TIMESTAMP" if kind.startswith("timestamp") else _SQL.get(kind, "VARCHAR")
