"""What people say of a model, as a user writes it: the words on its card.

Knows values only; every refusal is Invalid ``pipeline.definition``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from clew.authoring.checks import invalid
from clew.base.records.card_words import CardText


def card(
    *,
    description: str = "",
    intended_use: str = "",
    out_of_scope: str = "",
    factors: str = "",
    limits: str = "",
    ethics: str = "",
    recommendations: str = "",
    owners: str | Sequence[str] = (),
    license: str = "",
    links: str | Sequence[str] = (),
) -> CardText:
    """What stands on the card of a model: ``train(..., card=clew.card(...))``.

    The sections are those of Mitchell et al., "Model Cards for Model Reporting" (2019). Text may be
    Markdown. Nothing of it changes what comes out, so nothing runs anew where it changes; cards of
    versions that are there say the new words from the next ``clew apply`` on.

    Args:
        description: What the model does; by itself, the docstring of the training function.
        intended_use: What it is for, and for whom.
        out_of_scope: What it must not be used for.
        factors: Groups, instruments and environments that results may depend on.
        limits: What is known to go wrong.
        ethics: Sensitive data, risks and harms, and what is done about them.
        recommendations: What people who use it should know or do.
        owners: Who answers for it: names or addresses.
        license: Under which licence it may be used.
        links: Papers, pages, tickets.

    Raises:
        Invalid: ``pipeline.definition`` for what is no text.
    """
    texts = {
        "description": description,
        "intended_use": intended_use,
        "out_of_scope": out_of_scope,
        "factors": factors,
        "limits": limits,
        "ethics": ethics,
        "recommendations": recommendations,
        "license": license,
    }
    for name, text in texts.items():
        if not isinstance(text, str):
            raise invalid(f"card({name}={text!r})", "Give a text.")
    return CardText(
        **{name: inspect.cleandoc(text) for name, text in texts.items()},
        owners=_listed("owners", owners),
        links=_listed("links", links),
    )


def check_card(given: CardText | None) -> CardText:
    """The words on a card; none where nothing is given."""
    if given is not None and not isinstance(given, CardText):
        raise invalid(f"card={given!r}", "Write card=clew.card(intended_use=..., owners=[...]).")
    return given or CardText()


def described(said: CardText, function: Callable[..., Any]) -> CardText:
    """The same with the docstring of the training function, where it has no description."""
    doc = inspect.getdoc(function) or ""
    return said if said.description or not doc else replace(said, description=doc)


def _listed(name: str, given: str | Sequence[str]) -> tuple[str, ...]:
    found = (given,) if isinstance(given, str) else tuple(given)
    if not all(isinstance(one, str) for one in found):
        raise invalid(f"card({name}={given!r})", "Give a text, or a list of texts.")
    return tuple(one for one in found if one)
