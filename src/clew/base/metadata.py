"""Metadata of commits as people write them: ``key=value``.

Knows nothing of where they are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from clew.base.errors import Invalid


def parse_meta(texts: Sequence[str]) -> dict[str, str]:
    """Metadata of ``key=value`` texts; of two with one key the later counts.

    Raises:
        Invalid: ``commit.meta``.
    """
    found = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise Invalid(
                "commit.meta",
                f"{text!r} is no metadata.",
                hint="Metadata are texts by name: --meta key=value",
            )
        found[key] = value
    return found
