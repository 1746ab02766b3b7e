"""Content-addressed storage: bytes by digest, files, trees, on one local path.

Knows nothing of repos, commits and refs.
"""

from clew.store.collecting import Terms
from clew.store.digests import canonical, digest, digest_of
from clew.store.examining import Sound
from clew.store.nodes import EMPTY_TREE
from clew.store.records import Entry, TreeChange, TreeSummary
from clew.store.store import Overlay, Store
from clew.store.writer import Writer

__all__ = [
    "EMPTY_TREE",
    "Entry",
    "Overlay",
    "Sound",
    "Store",
    "Terms",
    "TreeChange",
    "TreeSummary",
    "Writer",
    "canonical",
    "digest",
    "digest_of",
]
