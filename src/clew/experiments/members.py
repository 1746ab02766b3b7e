"""The trial as each rank of a group has it: rank 0 speaks for all, the others follow it.

Knows what is said to the launcher, in whose process :mod:`clew.experiments.ranks` hears it:
``ranks.over`` {stream, over, paused} and ``ranks.due`` {due} are decisions of rank 0, which the
others ask for, each the same number of times; ``ranks.shard`` {number, step, tree} is one rank's
part of a checkpoint, ``ranks.whole`` {number} says that its step is over; ``ranks.tracker`` is
asked. All else that rank 0 says is for the search.
"""

from __future__ import annotations

import shutil
from typing import Any

from clew.compute import CallContext
from clew.experiments.logged import Logged
from clew.experiments.trial import Checkpoint, Trial
from clew.experiments.worker import WorkerPort, train


def run_rank(payload: dict[str, Any], context: CallContext) -> dict[str, object]:
    """Train one trial as one rank of several.

    The payload: that of ``run_trial`` with ``rank`` and ``size``. The value is that of
    ``run_trial`` with ``sharded``; what ranks above 0 return is dropped, but for their shards.
    """
    trial: Leader | Follower
    if payload["rank"] == 0:
        port = WorkerPort(payload, context)
        trial = Leader(payload, context, port)
    else:
        port = FollowerPort(payload, context)
        trial = Follower(payload, context, port)
    return {**train(payload, context, trial, port), "sharded": trial.sharded}


class Member(Trial):
    """What all ranks have."""

    def __init__(self, payload: dict[str, Any], context: CallContext, port: WorkerPort) -> None:
        super().__init__(port=port, **payload["trial"])
        self.rank = self.local_rank = payload["rank"]
        self.world_size = payload["size"]
        self.sharded = False
        """Whether the latest checkpoint is in parts, of which this rank has one."""
        self._context = context
        self._worker = port
        self._stream = "steps"
        self._shards = 0

    @property
    def should_stop(self) -> bool:
        """Whether to return now: the same for all ranks that ask equally often."""
        self._stream = "stop"  # loops over steps() count their own questions
        try:
            return self._is_over()
        finally:
            self._stream = "steps"

    def collective(self) -> dict[str, object]:
        """What XGBoost's ``CommunicatorContext`` takes; the tracker is the launcher's."""
        answer = self._context.ask({"kind": "ranks.tracker"})
        return {**answer, "dmlc_task_id": str(self.rank)}

    def _take_shard(self, checkpoint: Checkpoint, due: bool) -> None:
        """Write this rank's part at once where a checkpoint is due; the launcher gathers them."""
        self._set_latest(checkpoint)
        self._pending = None
        self.sharded = True
        self._shards += 1
        if due:
            tree = self._worker.keep(checkpoint, None)
            told = {"number": self._shards, "step": checkpoint.step, "tree": tree}
            self._context.send({"kind": "ranks.shard", **told})
            self._worker.saved()


class Leader(Member):
    """The trial of rank 0: an ordinary one, whose decisions are told to the others."""

    _whole: tuple[int, int] | None = None
    """Number and step of a checkpoint in parts that counts when its step is over."""

    def report(self, step: int, /, **metrics: float) -> None:
        """Say how good the model is; see :meth:`Trial.report`."""
        super().report(step, **metrics)
        if self._whole is not None and self._whole[1] < step:
            self._tell_whole()

    def _is_over(self) -> bool:
        over = super()._is_over()
        told = {"stream": self._stream, "over": over, "paused": self._pausing}
        self._context.send({"kind": "ranks.over", **told})
        return over

    def _take(self, checkpoint: Checkpoint, shard: bool) -> None:
        if not shard:
            self.sharded, self._whole = False, None
            super()._take(checkpoint, shard)
            return
        due = self._worker.is_due()
        self._context.send({"kind": "ranks.due", "due": due})
        self._take_shard(checkpoint, due)
        if due:
            self._whole = self._shards, checkpoint.step

    def _keep_pending(self) -> None:
        super()._keep_pending()
        if self._whole is not None and self._whole[1] <= self._step:
            self._tell_whole()

    def _tell_whole(self) -> None:
        assert self._whole is not None
        self._context.send({"kind": "ranks.whole", "number": self._whole[0]})
        self._whole = None


class Follower(Member):
    """The trial of another rank: it stops where rank 0 stops, and only its shards are kept."""

    def latest_checkpoint(self) -> Checkpoint | None:
        """Its shard. Where it has none, one without content: its model is not kept either."""
        nothing = Checkpoint(step=self.step, content=b"", meta={})
        return self._latest if self.sharded else nothing

    def _is_over(self) -> bool:
        answer = self._context.ask({"kind": "ranks.over", "stream": self._stream})
        self._pausing = bool(answer["paused"])
        return bool(answer["over"])

    def _take(self, checkpoint: Checkpoint, shard: bool) -> None:
        if shard:
            self._take_shard(checkpoint, bool(self._context.ask({"kind": "ranks.due"})["due"]))
            return
        self.sharded, self._latest = False, None
        if checkpoint.directory is not None:
            shutil.rmtree(checkpoint.directory, ignore_errors=True)


class FollowerPort(WorkerPort):
    """What leads nowhere: reports, logs and models of ranks above 0 are dropped."""

    def report(self, step: int, metrics: dict[str, float]) -> None:
        """Rank 0 reports."""

    def log(self, logged: Logged) -> None:
        """Rank 0 logs."""

    def progress(self, share: float, text: str) -> None:
        """Rank 0 says how far it is."""

    def copy_to_keep(self, model: object, is_checkpoint: bool) -> bytes | None:
        """Rank 0 returns the model."""
        del model, is_checkpoint
        return None

    def keep(self, checkpoint: Checkpoint | None, model: bytes | None) -> str:
        """A shard into the store; '' for what is none."""
        if checkpoint is None or not (checkpoint.content or checkpoint.directory):
            return ""
        return super().keep(checkpoint, model)
