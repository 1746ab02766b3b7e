"""The card of a run or registered model of an MLflow client, made of what that has told.

Plain values that travel between rooms and over the wire; they know no storage.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct, field


class LoggedDataset(Struct, frozen=True, kw_only=True):
    """Data that a run said it used. ``rows`` and ``columns``: None where it did not say."""

    name: str
    digest: str
    context: str = ""
    """What it was for, as the client says it: training, validation, …"""
    source_type: str = ""
    source: str = ""
    rows: int | None = None
    columns: tuple[tuple[str, str], ...] = ()
    """Name and type."""


class LoggedField(Struct, frozen=True, kw_only=True):
    """A column or tensor of a signature."""

    name: str
    type: str
    required: bool = True


class LoggedModel(Struct, frozen=True, kw_only=True):
    """A model among the files of a run, as its ``MLmodel`` describes it."""

    path: str
    """Where its files are in the repo ``mlflow``."""
    id: str = ""
    name: str = ""
    flavours: tuple[str, ...] = ()
    inputs: tuple[LoggedField, ...] = ()
    outputs: tuple[LoggedField, ...] = ()
    requirements: tuple[str, ...] = ()
    python: str = ""
    files: int = 0
    size_bytes: int = 0
    example: bool = False


class RegistryAct(Struct, frozen=True, kw_only=True):
    """Something that happened to a registered model: a version made, an alias moved."""

    at: datetime
    what: str


class RunCard(Struct, frozen=True, kw_only=True):
    """What is known of a run, or of a version in MLflow's registry that no pipeline of Clew made.

    ``subject``: ``runs:/ID`` or ``models:/NAME/VERSION``. ``metrics`` are the latest; what is no
    finite number is None. ``unknown``: what nobody has said, one sentence each.
    """

    subject: str
    title: str
    description: str = ""
    model: str = ""
    version: str = ""
    aliases: tuple[str, ...] = ()
    stage: str = ""
    version_tags: dict[str, str] = field(default_factory=dict)
    run: str = ""
    run_name: str = ""
    experiment: str = ""
    state: str = ""
    user: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    global_id: str = ""
    code: str = ""
    """The file or project that ran."""
    code_version: str = ""
    """The commit of Git that it was at."""
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float | None] = field(default_factory=dict)
    steps: int = 0
    """The greatest step of a metric."""
    tags: dict[str, str] = field(default_factory=dict)
    datasets: tuple[LoggedDataset, ...] = ()
    logged: LoggedModel | None = None
    history: tuple[RegistryAct, ...] = ()
    unknown: tuple[str, ...] = ()
    markdown: str = ""

    def _repr_markdown_(self) -> str:
        """The text, where a notebook shows it."""
        return self.markdown
