"""``python -m clew.serving.process``: a serving process with Clew's own models.

Knows nothing but which models are loaded; everything else is in ``worker``.
"""

from __future__ import annotations

from clew.models import LoadedModel, load_model
from clew.serving.apart import EXPLAIN
from clew.serving.worker import serve
from clew.store import Store


def load(store: Store, tree: str) -> LoadedModel:
    """The form that serves, or what explains the answers of a model."""
    if tree.startswith(EXPLAIN):
        return load_model(store, tree.removeprefix(EXPLAIN), explains=True)
    return load_model(store, tree, served=True)


if __name__ == "__main__":
    serve(load)
