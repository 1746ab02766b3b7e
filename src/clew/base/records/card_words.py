"""What people say of a model, as its pipeline has it.

Plain values that travel with a definition; no key counts them.
"""

from __future__ import annotations

from msgspec import Struct


class CardText(Struct, frozen=True, kw_only=True):
    """What people say of a model; no key counts it, so nothing runs anew where it changes.

    The sections are those of Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019).
    """

    description: str = ""
    """By itself, the docstring of the training function."""
    intended_use: str = ""
    out_of_scope: str = ""
    factors: str = ""
    limits: str = ""
    ethics: str = ""
    recommendations: str = ""
    owners: tuple[str, ...] = ()
    license: str = ""
    links: tuple[str, ...] = ()
