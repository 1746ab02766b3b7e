"""The graph of what came from what, over all kinds of things.

Knows no kind: rooms add nodes where they make things, in the same transaction.
"""

from clew.lineage.graph import Lineage

__all__ = ["Lineage"]
