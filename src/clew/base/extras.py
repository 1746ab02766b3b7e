"""Extras that are not installed here, found out without importing what they bring.

Knows names of modules, and nothing of what they do.
"""

from __future__ import annotations

from importlib.util import find_spec

from clew.base.errors import Unavailable


def check_explains() -> None:
    """That answers can be explained where this runs. Raises Unavailable ``extra.missing``."""
    if find_spec("shap") is None:
        raise Unavailable(
            "extra.missing",
            "Explanations need shap, which is not installed where endpoints are served.",
            hint='Install it: pip install "clew[explain]"',
        )
