"""Lineage as a drawing: layers from the thing asked for down to where it came from.

Knows nodes and edges, and nothing of what they stand for. The method is Sugiyama's (layers by
longest path, order by barycentres), without dummy nodes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from msgspec import Struct

from clew.base.records import Edge, Explanation, Node
from clew.server.web.words import link_of, short

BOX_WIDTH, BOX_HEIGHT = 190, 52
_GAP_X, _GAP_Y = 18, 46
_MARGIN = 8
_TITLE = 24
_SHOWN_ALIKE = 3
_WIDE = 5
_SWEEPS = 6


class Box(Struct, frozen=True, kw_only=True):
    """A node as drawn; ``x`` and ``y`` are its upper left corner. ``more``: stands for others."""

    x: float
    y: float
    kind: str
    title: str
    full: str
    code: str
    link: str
    subject: bool
    more: bool


class Curve(Struct, frozen=True, kw_only=True):
    """An edge as drawn: an SVG path, and what it says."""

    path: str
    label: str


class Drawing(Struct, frozen=True, kw_only=True):
    """Boxes and curves on a canvas, in CSS pixels."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    curves: tuple[Curve, ...]


def draw(explanation: Explanation) -> Drawing:
    """The subject on top; what it came from (or what came from it) below, layer by layer."""
    nodes = {node.id: node for node in (explanation.subject, *explanation.nodes)}
    below = _below(explanation, nodes)
    layer_of = _layers(explanation.subject.id, nodes, below)
    kept, stands_for = _collapse(nodes, layer_of, explanation.subject.id)
    links = _reduced(_links(below, stands_for))
    layers = _ordered(kept, layer_of, links)
    places = _places(layers)
    labels = {(e.source, e.target): e.label for e in explanation.edges}
    return Drawing(
        width=max(x for x, _ in places.values()) + BOX_WIDTH + _MARGIN,
        height=max(y for _, y in places.values()) + BOX_HEIGHT + _MARGIN,
        boxes=tuple(_box(kept[key], places[key], explanation.subject.id) for key in places),
        curves=tuple(
            Curve(path=_path(places[up], places[down]), label=_label(labels, up, down))
            for up, down in links
        ),
    )


def _below(explanation: Explanation, nodes: dict[str, Node]) -> dict[str, list[str]]:
    """What hangs below each node, without the edges that would lead back up (circles)."""
    down = explanation.direction == "down"
    hanging: dict[str, list[str]] = defaultdict(list)
    for edge in explanation.edges:
        if edge.source in nodes and edge.target in nodes and edge.source != edge.target:
            upper, lower = _ends(edge, down)
            if lower not in hanging[upper]:
                hanging[upper].append(lower)
    return _acyclic(explanation.subject.id, nodes, hanging)


def _ends(edge: Edge, down: bool) -> tuple[str, str]:
    return (edge.source, edge.target) if down else (edge.target, edge.source)


def _acyclic(
    start: str, nodes: Iterable[str], hanging: dict[str, list[str]]
) -> dict[str, list[str]]:
    """Depth first, iteratively; an edge to a node on the way here is dropped."""
    kept: dict[str, list[str]] = defaultdict(list)
    state: dict[str, int] = {}
    for root in (start, *nodes):
        if root in state:
            continue
        stack = [(root, iter(hanging[root]))]
        state[root] = 1
        while stack:
            node, rest = stack[-1]
            step = next(rest, None)
            if step is None:
                state[node] = 2
                stack.pop()
            elif state.get(step) != 1:
                kept[node].append(step)
                if step not in state:
                    state[step] = 1
                    stack.append((step, iter(hanging[step])))
    return kept


def _layers(start: str, nodes: Iterable[str], below: dict[str, list[str]]) -> dict[str, int]:
    """The longest way from the subject, so that every edge leads down."""
    order = _post_order(below, [(start, start), *((node, node) for node in nodes)])
    depth = {node: 0 if node == start else 1 for node in order}
    for node in reversed(order):
        for lower in below[node]:
            depth[lower] = max(depth[lower], depth[node] + 1)
    return depth


def _post_order(below: dict[str, list[str]], links: Iterable[tuple[str, str]]) -> list[str]:
    """Every node after all that hang below it."""
    order: list[str] = []
    seen: set[str] = set()
    for root in (end for link in links for end in link):
        if root in seen:
            continue
        seen.add(root)
        stack = [(root, iter(below[root]))]
        while stack:
            node, rest = stack[-1]
            step = next(rest, None)
            if step is None:
                order.append(node)
                stack.pop()
            elif step not in seen:
                seen.add(step)
                stack.append((step, iter(below[step])))
    return order


def _collapse(
    nodes: dict[str, Node], layer_of: dict[str, int], subject: str
) -> tuple[dict[str, Node], dict[str, str]]:
    """Of many of one kind in one layer a few are drawn, and one box stands for the rest."""
    alike: dict[tuple[int, str], list[Node]] = defaultdict(list)
    for node in nodes.values():
        alike[layer_of[node.id], node.kind].append(node)
    kept: dict[str, Node] = {subject: nodes[subject]}
    stands_for: dict[str, str] = {subject: subject}
    crowd = {layer: _room(alike, layer) for layer, _ in alike}
    for (layer, kind), group in alike.items():
        shown = group if len(group) <= crowd[layer] + 1 else group[: crowd[layer]]
        for node in shown:
            kept[node.id] = node
            stands_for[node.id] = node.id
        rest = group[len(shown) :]
        if rest:
            more = Node(
                kind=kind, id=f"more:{layer}:{kind}", title=f"{len(rest)} more", global_id=""
            )
            kept[more.id] = more
            layer_of[more.id] = layer
            stands_for.update({node.id: more.id for node in rest if node.id != subject})
    return kept, stands_for


def _room(alike: dict[tuple[int, str], list[Node]], layer: int) -> int:
    """How many of one kind a layer shows before it gets too wide."""
    sizes = [len(group) for (at, _), group in alike.items() if at == layer]
    for shown in range(_SHOWN_ALIKE, 0, -1):
        if sum(min(size, shown + 1) for size in sizes) <= _WIDE:
            return shown
    return 1


def _links(below: dict[str, list[str]], stands_for: dict[str, str]) -> list[tuple[str, str]]:
    pairs = ((stands_for[up], stands_for[down]) for up in below for down in below[up])
    return [pair for pair in dict.fromkeys(pairs) if pair[0] != pair[1]]


def _reduced(links: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without the shortcuts: an edge beside a longer way says nothing that the way does not."""
    below: dict[str, list[str]] = defaultdict(list)
    for up, down in links:
        below[up].append(down)
    reach: dict[str, set[str]] = {}
    for node in _post_order(below, links):
        reach[node] = {down for first in below[node] for down in (first, *reach[first])}
    return [
        (up, down)
        for up, down in links
        if not any(down in reach[other] for other in below[up] if other != down)
    ]


def _ordered(
    kept: dict[str, Node], layer_of: dict[str, int], links: Sequence[tuple[str, str]]
) -> list[list[str]]:
    """Nodes by layer, each near the middle of those that it hangs on and that hang on it."""
    layers: list[list[str]] = [[] for _ in range(max(layer_of[key] for key in kept) + 1)]
    for key in kept:
        layers[layer_of[key]].append(key)
    layers = [layer for layer in layers if layer]
    near: dict[str, list[str]] = defaultdict(list)
    for up, down in links:
        near[up].append(down)
        near[down].append(up)
    for _ in range(_SWEEPS):
        place = {key: (i + 0.5) / len(layer) for layer in layers for i, key in enumerate(layer)}
        for layer in layers:
            layer.sort(key=lambda key: _mean([place[other] for other in near[key]], place[key]))
    return layers


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _places(layers: list[list[str]]) -> dict[str, tuple[float, float]]:
    widest = max(len(layer) for layer in layers)
    full = widest * (BOX_WIDTH + _GAP_X) - _GAP_X
    places: dict[str, tuple[float, float]] = {}
    for depth, layer in enumerate(layers):
        start = _MARGIN + (full - len(layer) * (BOX_WIDTH + _GAP_X) + _GAP_X) / 2
        for index, key in enumerate(layer):
            x = start + index * (BOX_WIDTH + _GAP_X)
            places[key] = (x, _MARGIN + depth * (BOX_HEIGHT + _GAP_Y))
    return places


def _box(node: Node, place: tuple[float, float], subject: str) -> Box:
    more = node.id.startswith("more:")
    title = re.sub(r"\S+/(?=\S)", "", node.title) or short(node.id)
    return Box(
        x=place[0],
        y=place[1],
        kind=node.kind.replace("_", " "),
        title=title if len(title) <= _TITLE else "…" + title[1 - _TITLE :],
        full=f"{node.kind.replace('_', ' ')}: {node.title} ({node.id})" if not more else title,
        code="" if more else short(node.id),
        link="" if more else link_of(node),
        subject=node.id == subject,
        more=more,
    )


def _path(upper: tuple[float, float], lower: tuple[float, float]) -> str:
    x1, y1 = upper[0] + BOX_WIDTH / 2, upper[1] + BOX_HEIGHT
    x2, y2 = lower[0] + BOX_WIDTH / 2, lower[1]
    bend = max(20.0, (y2 - y1) / 2)
    if y2 - y1 > BOX_HEIGHT + _GAP_Y and abs(x1 - x2) < BOX_WIDTH / 2:  # around what is between
        side = max(x1, x2) + BOX_WIDTH * 0.8
        return f"M{x1:.1f} {y1:.1f}C{side:.1f} {y1:.1f} {side:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    return f"M{x1:.1f} {y1:.1f}C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f}"


def _label(labels: dict[tuple[str, str], str], up: str, down: str) -> str:
    return labels.get((down, up)) or labels.get((up, down)) or ""
