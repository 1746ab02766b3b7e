"""Hugging Face Trainer: a callback, and the checkpoint to go on with.

The one file that knows transformers.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from clew.callbacks.saving import EVERY_S, Saving, Trial

FOLDER = "trainer"


def transformers(trial: Trial, *, every_s: float = EVERY_S) -> Any:
    """A callback that reports evaluations, keeps the Trainer's checkpoints, and ends it in time.

    ::

        watch = clew.callbacks.transformers(trial)
        arguments = TrainingArguments(
            "out", num_train_epochs=trial.max_steps, eval_strategy="epoch", save_strategy="no"
        )
        Trainer(model, arguments, ..., callbacks=[watch]).train(
            resume_from_checkpoint=watch.resume_from
        )

    A step is an epoch, with its evaluation. ``resume_from`` is a directory of the Trainer, or None.
    """
    from transformers import TrainerCallback  # noqa: PLC0415 - heavy, only its users have it

    saving = Saving(trial, every_s)
    found = trial.restore()

    class Watch(TrainerCallback):  # type: ignore[misc]  # it has no types
        resume_from = str(Path(found) / FOLDER) if found else None

        def on_evaluate(
            self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any
        ) -> Any:
            del args
            saving.report(round(state.epoch), metrics or {})
            if saving.due:
                control.should_save = True
            return control

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            made = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            saving.keep(round(state.epoch), lambda to: shutil.copytree(made, to / FOLDER))
            control.should_training_stop = control.should_training_stop or trial.should_stop
            return control

    return Watch()
