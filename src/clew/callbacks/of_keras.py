"""Keras: a callback for ``fit``, and the model to go on with.

The one file that knows Keras.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clew.callbacks.saving import EVERY_S, Saving, Trial

FILE = "model.keras"


def keras(trial: Trial, *, every_s: float = EVERY_S) -> Any:
    """A callback that reports each epoch's logs, keeps the whole model, and ends ``fit`` in time.

    ::

        watch = clew.callbacks.keras(trial)
        model = watch.restored or build()
        model.fit(x, y, epochs=trial.max_steps, initial_epoch=trial.step, callbacks=[watch])
        return model

    A step is an epoch. ``restored`` is the model of the checkpoint with its optimizer, or None.
    """
    import keras as library  # noqa: PLC0415 - heavy, and only its users have it

    saving = Saving(trial, every_s)
    found = trial.restore()

    class Watch(library.callbacks.Callback):  # type: ignore[misc]  # it has no types
        restored = library.saving.load_model(Path(found) / FILE) if found else None

        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            saving.report(epoch + 1, logs or {})
            if saving.keep_if_due(epoch + 1, lambda folder: self.model.save(folder / FILE)):
                self.model.stop_training = True

    return Watch()
