"""What this room hands to those who train and judge: splits, packages, judgements, alias moves.

Plain values; they know no storage.
"""

from __future__ import annotations

from msgspec import Struct, field

from clew.base.records import Check, CodeRef, Signature


class Split(Struct, frozen=True, kw_only=True):
    """Training rows (a tree in the store) and the commit of the frozen test rows.

    ``paths`` are the files of the tree to read; row counts are None where nothing was split.
    """

    train_tree: str
    paths: tuple[str, ...]
    test_commit: str
    train_rows: int | None = None


class TrainingRun(Struct, frozen=True, kw_only=True):
    """Where a model came from; kept with it as ``/clew/training.json``.

    ``function`` and ``fingerprint`` are of the training function; ``features`` is the id of the
    commit that the training rows were cut from.
    """

    model: str
    job: str
    global_id: str
    features: str
    experiment: str | None = None
    trial: str | None = None
    params: dict[str, object] = field(default_factory=dict)
    seed: int | None = None
    function: CodeRef | None = None
    fingerprint: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    """What the best trial reported last, on rows that it chose itself."""


class Package(Struct, frozen=True, kw_only=True):
    """A packaged model: a durable tree, ready to be committed."""

    tree: str
    signature: Signature
    run: TrainingRun
    test_commit: str


class Judgement(Struct, frozen=True, kw_only=True):
    """What a gate found; becomes a verdict when it is recorded. ``report_tree`` is durable."""

    model_version: str
    job: str
    global_id: str
    blessed: bool
    checks: tuple[Check, ...]
    metrics: dict[str, float]
    champion: str | None
    champion_metrics: dict[str, float]
    test_commit: str
    report_tree: str
    report: str = ""
    """Digest of the report in that tree."""
    undeclared: tuple[tuple[str, str, str], ...] = ()
    """What the gate's code read besides: kind, name, where."""

    @property
    def reason(self) -> str:
        """One sentence: why it is refused, or what it is blessed for."""
        failed = [check.reason for check in self.checks if not check.passed]
        if failed:
            return f"Refused: {' '.join(failed)}"
        number = len(self.checks)
        return f"Blessed: {number} of {number} check{'' if number == 1 else 's'} passed."
