"""A graph of endpoints as an InferenceGraph of KServe, with the services that it asks.

Knows KServe's fields and what they mean to its router; what means something else there is refused
by name. Talks to no cluster.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from clew.base.errors import Invalid
from clew.base.records.graphs import (
    EnsembleStep,
    Graph,
    NodeStep,
    Part,
    SequenceStep,
    SplitterStep,
    SwitchStep,
)
from clew.base.row_conditions import read_condition

Manifest = dict[str, Any]
Serve = Callable[[str], tuple[Manifest, ...]]
"""An endpoint → its services, and the graph that splits its traffic where there are several."""
ROUTERS = {
    SequenceStep: "Sequence",
    EnsembleStep: "Ensemble",
    SwitchStep: "Switch",
    SplitterStep: "Splitter",
}
_ALWAYS = "inputs"
"""A condition that every v2 request keeps: what a default is to KServe's router."""


class GraphManifests:
    """The nodes of one InferenceGraph, and the services that they name.

    ``graphs``: all endpoints that are graphs. ``serve``: see :data:`Serve`.
    """

    def __init__(self, name: str, graphs: Mapping[str, Graph], serve: Serve) -> None:
        self._name, self._graphs, self._serve = name, graphs, serve
        self.services: dict[str, Manifest] = {}
        self.nodes: dict[str, Any] = {}
        root = graphs[name].root
        if isinstance(root, NodeStep):
            root = SequenceStep(name="sequence", steps=(root,))
        self._router("root", root)

    def _router(self, key: str, step: Part) -> None:
        """A node of the graph for a step with others in it."""
        node: dict[str, Any] = {"routerType": ROUTERS[type(step)], "steps": []}
        self.nodes[key] = node
        if isinstance(step, SequenceStep):
            node["steps"] = [
                {**self._step(one), **self._data(at, one), **_dependency(one)}
                for at, one in enumerate(step.steps)
            ]
        elif isinstance(step, EnsembleStep):
            if step.combine != "all":
                how = "a function" if step.combine == "function" else step.combine
                raise self._refused(
                    f"{step.name} combines answers by {how}, and KServe's router gives them all",
                    "Use combine='all', and combine them where they are used.",
                )
            node["steps"] = [{**self._step(one), **_dependency(one)} for one in step.steps]
        elif isinstance(step, SwitchStep):
            node["steps"] = [
                {**self._step(case.step), "condition": self._condition(step.name, case.condition)}
                for case in step.cases
            ]
            if step.default is not None:
                node["steps"].append({**self._step(step.default), "condition": _ALWAYS})
        elif isinstance(step, SplitterStep):
            whole = sum(step.weights)
            shares = percents([100 * weight / whole for weight in step.weights])
            node["steps"] = [
                {**self._step(one), "weight": share}
                for one, share in zip(step.steps, shares, strict=True)
            ]

    def _step(self, step: Part) -> dict[str, Any]:
        if not isinstance(step, NodeStep):
            key = self._free(step.name)
            self._router(key, step)
            return {"nodeName": key, "name": step.name}
        if step.endpoint in self._graphs:
            key = self._free(step.name)
            inner = self._graphs[step.endpoint].root
            self._router(
                key,
                SequenceStep(name="sequence", steps=(inner,))
                if isinstance(inner, NodeStep)
                else inner,
            )
            return {"nodeName": key, "name": step.name}
        made = self._serve(step.endpoint)
        services = [one for one in made if one["kind"] == "InferenceService"]
        self.services |= {one["metadata"]["name"]: one for one in services}
        if len(services) == 1:
            return {"serviceName": services[0]["metadata"]["name"], "name": step.name}
        key = self._free(step.name)  # its revisions share the traffic: their splitter comes along
        self.nodes[key] = made[-1]["spec"]["nodes"]["root"]
        return {"nodeName": key, "name": step.name}

    def _free(self, name: str) -> str:
        taken = {"root", *self.nodes}
        return next(
            one
            for at in range(len(taken) + 1)
            if (one := f"{name}-{at}" if at else name) not in taken
        )

    def _data(self, at: int, step: Part) -> dict[str, str]:
        if not at or step.data == "request":
            return {"data": "$request"} if at else {}
        if step.data == "response":
            return {"data": "$response"}
        raise self._refused(
            f"{step.name} is asked with the response before it and the request, and KServe's "
            "router hands on one of them",
            "Write clew.node(..., data='response') or data='request'.",
        )

    def _condition(self, switch: str, text: str) -> str:
        """A condition as GJSON over a v2 request, of which it sees the first row."""
        plain = read_condition(text).plain if text else None
        if plain is None or plain[2] is None:
            raise self._refused(
                f"{switch} decides by {text or 'a function'!r}, and KServe by one comparison",
                "Compare one column with a constant.",
            )
        name, sign, constant = plain
        column = f"inputs.#(name=={json.dumps(name)})#"
        return f"{column}|#(data.0{sign}{json.dumps(constant)})"

    def _refused(self, why: str, hint: str) -> Invalid:
        return Invalid(
            "export.graph",
            f"The graph {self._name} means something else to KServe: {why}.",
            hint=f"{hint} Or have KServe run an image: clew image {self._name}, then --image.",
        )


def _dependency(step: Part) -> dict[str, str]:
    return {"dependency": "Hard" if step.required else "Soft"}


def percents(shares: list[float]) -> list[int]:
    """Shares as whole percentages; the largest is rounded so that they add up to 100."""
    found = [round(share) for share in shares]
    if found:
        found[found.index(max(found))] += 100 - sum(found)
    return found
