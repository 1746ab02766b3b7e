"""The help of the command tree: its commands in sections, as plain text.

Knows no command. Typer's own drawing of help takes a third of the time of ``clew --help``.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup


class Sections(TyperGroup):
    """A group that tells its commands by the panel that each names."""

    def format_commands(
        self,
        ctx: typer.Context,  # type: ignore[override]  # noqa: ARG002 - Typer calls it so
        formatter: Any,
    ) -> None:
        """Write a section for each panel; the columns of all sections stand below each other."""
        panels: dict[str, list[tuple[str, str]]] = {}
        width = max((len(name) for name in self.commands), default=0)
        for name, command in self.commands.items():
            panel = getattr(command, "rich_help_panel", None) or "Commands"
            said = " ".join((command.help or "").split("\n\n")[0].split())
            panels.setdefault(panel, []).append((name.ljust(width), said))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)
