"""Lightning: a callback for a Trainer, and the checkpoint to go on with.

The one file that knows Lightning.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clew.callbacks.saving import EVERY_S, Saving, Trial

FILE = "last.ckpt"


def lightning(trial: Trial, *, every_s: float = EVERY_S) -> Any:
    """A callback that reports what was logged, keeps whole checkpoints, and ends ``fit`` in time.

    ::

        watch = clew.callbacks.lightning(trial)
        trainer = Trainer(max_epochs=trial.max_steps, callbacks=[watch])
        trainer.fit(model, data, ckpt_path=watch.ckpt_path)

    A step is an epoch; one process trains. ``ckpt_path`` is a checkpoint of Lightning, or None.
    """
    import lightning.pytorch as library  # noqa: PLC0415 - heavy, and only its users have it

    saving = Saving(trial, every_s)
    found = trial.restore()

    class Watch(library.Callback):  # type: ignore[misc]  # it has no types
        ckpt_path = str(Path(found) / FILE) if found else None

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            del pl_module
            step = trainer.current_epoch + 1
            saving.report(step, trainer.callback_metrics)
            if saving.keep_if_due(step, lambda to: trainer.save_checkpoint(to / FILE)):
                trainer.should_stop = True

    return Watch()
