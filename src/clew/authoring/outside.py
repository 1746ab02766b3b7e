"""Models that a pipeline uses without training them: imported ones.

Records what was written; the pipeline that they belong to knows how it was checked.
"""

from __future__ import annotations

from typing import TypeVar

from clew.authoring.checks import invalid
from clew.authoring.inputs import Arranged, Node, Source
from clew.authoring.options import StepOptions, TrainingOptions
from clew.authoring.steps import Imported
from clew.experiments import single

Any_Node = TypeVar("Any_Node", bound="Node")


class Outside:
    """The part of :class:`clew.Pipeline` about models that come from elsewhere."""

    name: str

    def _add(self, node: Any_Node) -> Any_Node:
        raise NotImplementedError

    def model(self, name: str, *, target: str, test: Source) -> Imported:
        """A model that comes from outside: ``clew models import FILE --name PIPELINE/NAME``.

        Each version that is imported is judged by the gate that is written for it, on the rows of
        ``test``; a blessed one goes on its endpoints.

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
