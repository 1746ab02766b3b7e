"""What a model version carries besides the model: read from its tree, as it was packaged.

Knows the store and where files lie; nothing of how they were made.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from clew.base.records import CodeRef, ModelVersion
from clew.base.records.cards import (
    CardText,
    Configuration,
    Importances,
    Learned,
    Metrics,
    NineThings,
    Origin,
    Runtime,
    Summary,
)
from clew.models.layout import (
    CARD,
    CHARTS,
    CONFIGURATION,
    IMPORTANCES,
    LEARNED,
    METRICS,
    NOTES,
    PREDICTIONS,
    PROFILE,
    RUNTIME,
    SUMMARY,
    TRAINING,
)
from clew.store import Store

_T = TypeVar("_T")


class Looking:
    """The part of :class:`clew.models.Models` that reads what was kept."""

    _store: Store

    def get(self, ref: str) -> ModelVersion:
        """The version of a name."""
        raise NotImplementedError

    def _tree(self, version: ModelVersion) -> str:
        raise NotImplementedError

    def reference(self, ref: str) -> dict[str, Any]:
        """``{"inputs": profile, "outputs": profile, "training": {...}}`` that a version carries.

        The profiles (as :func:`clew.quality.profile` makes them) are of the rows that it learned
        from and of its answers on test rows.
        """
        tree = self._tree(self.get(ref))
        names = {"inputs": PROFILE, "outputs": PREDICTIONS, "training": TRAINING}
        return {name: self._kept(tree, path, Any, None) for name, path in names.items()}

    def things(self, ref: str) -> NineThings:
        """The nine things that are kept of a version, but for the raw data in its lineage.

        Of a version that was made before they were, what its record says.

        Raises:
            NotFound: ``model.unknown``.
            Invalid: ``ref.ambiguous``.
        """
        version = self.get(ref)
        tree = self._tree(version)
        training = self._kept(tree, TRAINING, dict[str, Any], {})
        unknown = Learned(kind="an object of which nothing was kept")
        notes = self._kept(tree, NOTES, tuple[str, ...], None)
        told = Configuration(params=version.params, seed=training.get("seed"))
        return NineThings(
            runtime=self._kept(tree, RUNTIME, Runtime, Runtime()),
            configuration=self._kept(tree, CONFIGURATION, Configuration, told),
            lineage=_origin(version, training),
            features=self._kept(tree, PROFILE, dict[str, Any], {}).get("columns", {}),
            importances=self._kept(tree, IMPORTANCES, Importances, Importances()),
            metrics=self._kept(tree, METRICS, Metrics, Metrics()),
            charts=self._kept(tree, CHARTS, dict[str, Any], {}),
            learned=self._kept(tree, LEARNED, Learned, unknown),
            summary=self._kept(tree, SUMMARY, Summary, Summary()),
            notes=(_EARLIER,) if notes is None else notes,
        )

    def text_then(self, ref: str) -> CardText | None:
        """What the pipeline said of the model when it was trained; None where that was not kept."""
        found: CardText | None = self._kept(self._tree(self.get(ref)), CARD, CardText, None)
        return found

    def _kept(self, tree: str, path: str, kind: type[_T] | Any, otherwise: Any) -> Any:
        entry = self._store.get(tree, path)
        if entry is None:
            return otherwise
        return msgspec.json.decode(self._store.read(entry.digest), type=kind)


_EARLIER = "This version was made before charts, importances and summaries were kept with models."


def _origin(version: ModelVersion, training: dict[str, Any]) -> Origin:
    function = training.get("function")
    return Origin(
        commit=version.commit,
        global_id=version.global_id,
        job=version.job,
        experiment=version.experiment,
        trial=version.trial,
        features=str(training.get("features", "")),
        test_commit=version.test_commit or str(training.get("test_commit", "")),
        snapshot=msgspec.convert(function, CodeRef).snapshot if function else "",
    )
