"""Models that a pipeline uses without training them: imported ones, and batches of predictions.

Records what was written; the pipeline that they belong to knows how it was checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, Unpack

from msgspec.structs import replace

from clew.authoring.checks import check_limits, invalid
from clew.authoring.inputs import Arranged, Given, Node, Source, arrange
from clew.authoring.options import StepOptions, TrainingOptions
from clew.authoring.policies import StepPolicy, policy_of
from clew.authoring.steps import Batch, Imported, Training
from clew.base.address import DEFAULT_BRANCH
from clew.experiments import single

Any_Node = TypeVar("Any_Node", bound="Node")


class Outside:
    """The part of :class:`clew.Pipeline` about models that come from elsewhere."""

    name: str
    defaults: dict[str, Any]

    def batch(
        self,
        rows: Given,
        model: Training | str,
        *,
        name: str = "predictions",
        alias: str = "champion",
        follow: bool = True,
        per: str = "file",
        keep: Sequence[str] | None = None,
        prefix: str = "",
        retries: int = 0,
        timeout_s: float | None = None,
        memory_bytes: int | None = None,
        **how: Unpack[StepPolicy],
    ) -> Batch:
        """Predict for all rows of a node with the same model and preprocessing that serve.

        New and changed files alone are asked. Its output has the rows with the answers behind, a
        file for each file; ``clew why`` of one leads to the model version and to the data.

        Args:
            rows: A node, or some of its files: tables with the columns that the model takes.
            model: A training step, an imported model, or the name of any model.
            name: Name of the step.
            alias: Which version to ask: the one that this alias stands on.
            follow: When the alias moves, all files are asked anew; else only those that come.
            per: ``file``, ``directory`` or ``repo``: what is asked at once.
            keep: The columns to keep of the rows; all without it.
            prefix: Before the names of the answers: ``label``, ``probability``, ``prediction``.
            retries: As for :meth:`step`.
            timeout_s: As for :meth:`step`.
            memory_bytes: As for :meth:`step`.
            how: How it is run: see :class:`StepPolicy`.

        Raises:
            Invalid: ``pipeline.definition``.
        """
        known = model if isinstance(model, str) else getattr(model, "repo", "")
        if not known or (not isinstance(model, str) and not isinstance(model, Training)):
            raise invalid(f"{model!r} is not a model", "Give a training step, or its name.")
        check_limits(retries=retries, timeout_s=timeout_s, memory_bytes=memory_bytes)
        place = f"{known}.{alias}"
        here = Source(self, place.rpartition("/")[2], repo=place, branch=DEFAULT_BRANCH)
        version = here.named("model")
        asked = version if follow else replace(version.reference(), needed=True)
        told: dict[str, object] = {"prefix": prefix} if prefix else {}
        told |= {"keep": list(keep)} if keep is not None else {}
        options = StepOptions(
            name=name,
            retries=retries,
            timeout_s=timeout_s,
            memory_bytes=memory_bytes,
            parameters=told,
            allow=("*",),
            how=policy_of(name, how, self.defaults, ["rows", "model"]),
        )
        self._bind([rows])
        found = arrange(name, [rows, asked], per, ["rows", "model"])
        return self._add(Batch(self, found, options, known, alias))

    def _add(self, node: Any_Node) -> Any_Node:
        raise NotImplementedError

    def _bind(self, inputs: Sequence[Given]) -> None:
        raise NotImplementedError

    def model(self, name: str, *, target: str, test: Source) -> Imported:
        """A model that comes from outside: ``clew models import FILE --name PIPELINE/NAME``.

        Each version that is imported is asked with the rows of ``test`` and judged on them, by the
        gate that is written for it (without one it is blessed, as what is trained is); a blessed
        one goes on its endpoints.

        Args:
            name: Of the model.
            target: The column that it predicts.
            test: A source with labelled rows.

        Raises:
            Invalid: ``pipeline.definition``.
        """
        if not isinstance(test, Source):
            raise invalid(
                f"test={test!r} of the model {name} is no source",
                "Give a source with labelled rows: nothing here learned from others.",
            )
        training = TrainingOptions(target=target, test=test, search=single(), space={})
        found = StepOptions(name=name)
        return self._add(Imported(self, _from_outside, Arranged(inputs=()), found, training))


def _from_outside() -> None:
    """Stands for the training of a model that comes from outside."""
