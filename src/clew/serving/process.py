"""``python -m clew.serving.process``: a serving process with Clew's own models.

Knows nothing but which models are loaded; everything else is in ``worker``.
"""

from __future__ import annotations

from functools import partial

from clew.models import load_model
from clew.serving.worker import serve

if __name__ == "__main__":
    serve(partial(load_model, served=True))
