"""PyTorch: a plain loop over epochs that keeps the state of its parts.

The one file of this room that knows PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clew.callbacks.saving import EVERY_S, Saving, Trial

FILE = "state.pt"


class Loop:
    """Epochs to train, over parts that have a ``state_dict``; see :func:`pytorch`."""

    def __init__(self, trial: Trial, every_s: float, parts: dict[str, Any]) -> None:
        import torch  # noqa: PLC0415 - heavy, and only its users have it

        self._torch = torch
        self._trial = trial
        self._saving = Saving(trial, every_s)
        self._parts = parts
        found = trial.restore()
        if found:
            state = torch.load(Path(found) / FILE, weights_only=True)
            torch.set_rng_state(state["rng"])
            for name, part in parts.items():
                part.load_state_dict(state["parts"][name])

    def __iter__(self) -> Iterator[int]:
        """Numbers of epochs from 1, or from where the checkpoint stands, to where to stop."""
        while not self._trial.should_stop:
            self._step = self._trial.step + 1
            self._told = False
            yield self._step
            if not self._told:
                raise RuntimeError("Call report(...) once in each turn of the loop.")
            self._saving.keep_if_due(self._step, self._write)

    def report(self, **metrics: float) -> None:
        """Report the epoch that has just been trained."""
        self._saving.report(self._step, metrics)
        self._told = True

    def _write(self, folder: Path) -> None:
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        state = {"parts": parts, "rng": self._torch.get_rng_state()}
        self._torch.save(state, folder / FILE)


def pytorch(trial: Trial, *, every_s: float = EVERY_S, **parts: Any) -> Loop:
    """A loop over epochs that restores, reports, keeps checkpoints, and ends in time.

    ::

        loop = clew.callbacks.pytorch(trial, model=model, optimizer=optimizer)
        for epoch in loop:
            train(model, optimizer)
            loop.report(loss=validate(model))
        return model

    ``parts`` have ``state_dict`` and ``load_state_dict``: models, optimizers, schedulers, scalers.
    The state of the random numbers of the CPU is kept too.
    """
    return Loop(trial, every_s, parts)
