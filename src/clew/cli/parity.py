"""Which form of a model serves, and how the forms compare, for people.

Knows the record; not where it was kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clew.cli import render
from clew.cli.frame import console

if TYPE_CHECKING:
    from clew.base.records.parity import Parity


def print_parity(parity: Parity) -> None:
    """One line of what serves and why; a table of the rows that were compared."""
    out = console()
    out.print(f"[dim]serves[/] [bold]{parity.serves}[/]  {parity.why}")
    render.table(
        out,
        ("", "compared on", "rows>", "refused by both>", "differing>", "largest difference"),
        [
            (
                render.mark("refused" if one.differing else "done"),
                one.about,
                f"{one.rows:,}",
                f"{one.refused:,}",
                f"{one.differing:,}",
                "  ".join(f"{name} {value:.2g}" for name, value in one.largest.items()),
            )
            for one in parity.sets
        ],
    )
    for one in parity.sets:
        for row in one.worst:
            out.print(
                f"[yellow]{one.name} row {row.row}[/]: {row.output} differs by {row.by:.3g}: "
                f"{row.original} and {row.converted}, for {row.inputs}"
            )
