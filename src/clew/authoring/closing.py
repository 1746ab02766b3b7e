"""What closes the loop of a pipeline: gates, monitors and triggers, beside its endpoints.

Knows nothing of how steps are recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from clew.authoring.checks import check_parameters, check_signature, invalid
from clew.authoring.declaring import Dependency, check_allow, check_depends
from clew.authoring.options import GateOptions
from clew.authoring.outside import Outside
from clew.authoring.served import Served
from clew.authoring.steps import Function, MonitorOptions, Training
from clew.authoring.triggering import trigger_of
from clew.monitoring import DriftDefinition
from clew.triggers import Action, Condition, Trigger

DEFAULT_DRIFT = DriftDefinition()


class Closing(Outside, Served):
    """A part of :class:`clew.Pipeline`."""

    name: str
    monitors: list[MonitorOptions]
    triggers: list[Trigger]

    def gate(
        self,
        model: Training,
        *,
        parameters: Mapping[str, object] | None = None,
        depends_on: Dependency = None,
        allow: Sequence[str] = (),
        slices: Sequence[str] = (),
        query: str = "",
    ) -> Callable[[Function], Function]:
        """Make a function the gate of a model: it gets a ``clew.Candidate`` and states rules.

        Args:
            model: The training step.
            parameters: Passed to the function by name, behind the candidate; a change judges anew.
            depends_on: What else the verdict depends on, as in :meth:`step`.
            allow: Reads that need no warning, as in :meth:`step`.
            slices: Columns and SQL expressions whose groups the evaluation report shows, besides
                columns of few values.
            query: The column whose values are queries: rows are then ranked within each, and
                ``ndcg``, ``ndcg_at_10``, ``map`` and ``mrr`` are metrics too.
        """
        if not isinstance(model, Training) or model.pipeline is not self:
            raise invalid(f"{model!r} is not a training step of {self.name}", "Gate a model.")
        if model.gate is not None:
            raise invalid(f"{model.name} has a gate already", "Put all rules in one function.")
        given = GateOptions(
            parameters=parameters or {},
            depends_on=check_depends(depends_on),
            allow=check_allow(allow),
            slices=(slices,) if isinstance(slices, str) else tuple(slices),
            query=query,
        )
        check_parameters(given.parameters)

        def record(function: Function) -> Function:
            taken = {**self._bound(function, 1), **given.parameters}
            check_signature(function, 1, tuple(taken))
            model.gate, model.gate_options = function, replace(given, parameters=taken)
            return function

        return record

    def monitor(
        self, endpoint: str, *, drift: DriftDefinition = DEFAULT_DRIFT, retrain: bool = False
    ) -> None:
        """Watch what ``endpoint`` is asked; ``retrain`` trains anew when it has drifted.

        A retrain first moves data that waits on the branch ``staging`` of the pipeline's sources
        to their own branch, so that the new model learns from it.
        """
        if endpoint not in self.endpoints:
            raise invalid(
                f"There is no endpoint {endpoint!r} to monitor", "Define the endpoint before it."
            )
        self.monitors.append(MonitorOptions(endpoint=endpoint, drift=drift, retrain=retrain))

    def trigger(
        self,
        name: str,
        *,
        when: Condition,
        do: Action | Sequence[Action],
        cooldown: str | float = 0,
        limit: str = "",
    ) -> None:
        """Do something when a condition is met, once for each cause.

        Args:
            name: Its name in this pipeline.
            when: ``clew.on_commit(...)``, ``clew.amount(...)``, ``clew.schedule(...)`` and their
                like, joined with ``&`` and ``|``.
            do: ``clew.run(step)``, ``clew.retrain()``, ``clew.rollback(endpoint)``,
                ``clew.notify(url)``, or several in their order.
            cooldown: No other firing so soon after one (``"1h"``).
            limit: No more than so many within a span (``"3/1d"``).
        """
        if any(one.name == name for one in self.triggers):
            raise invalid(f"{self.name} has two triggers named {name!r}", "Rename one.")
        self.triggers.append(trigger_of(self.name, name, when, do, cooldown, limit))

    def _bound(self, function: Function, behind: int) -> dict[str, object]:  # noqa: ARG002 - for who inherits
        """What parameters of a function behind the first ones stand for; nothing here."""
        return {}
