"""What stands before and behind the model of an endpoint: functions of the user.

Plain values that travel between rooms; the functions themselves lie in a tree of the store.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from clew.base.records.models import Column, Signature

PROCESSING = "/clew/processing.json"
PREPROCESS = "/clew/preprocess.pkl"
POSTPROCESS = "/clew/postprocess.pkl"
ROWS = "/clew/example_rows.json"
"""Where they lie in the tree of a revision: this record, the functions, an example of a request."""


class Processing(Struct, frozen=True, kw_only=True):
    """Functions around a model. ``code``: digest of them, of what they depend on, and of inputs.

    ``inputs``: what a client sends; nothing: what the model takes. ``preprocess`` and
    ``postprocess`` are ``file:name`` ('': none). ``takes``: what ``preprocess`` is given (polars,
    pandas, numpy; '': as the model). ``gets``: what ``postprocess`` is given ('': a mapping of
    arrays), and ``with_rows``: the rows besides. ``packages``: distribution → version of what the
    functions import. ``tree``: where all of it lies, and ``place``: the commit that has it.
    """

    code: str
    inputs: tuple[Column, ...] = ()
    preprocess: str = ""
    postprocess: str = ""
    takes: str = ""
    gets: str = ""
    with_rows: bool = False
    packages: dict[str, str] = {}
    tree: str = ""
    place: str = ""

    def signature(self, model: Signature) -> Signature:
        """What a client sends, where ``model`` is what the model takes."""
        if not self.inputs:
            return model
        return replace(model, frame="polars", inputs=self.inputs, width=len(self.inputs))
