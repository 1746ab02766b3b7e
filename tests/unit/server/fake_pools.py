"""Resource pools as the fake workspace tells of them: one slot in each state, and what waits."""

from clew.base.errors import NotFound
from clew.base.records.pools import PoolInfo, SlotInfo, Waiting


class FakePools:
    """The verbs for pools. ``restored``: slots that were given back."""

    restored = ()

    def pools(self):
        reason = "trial 9k2m4x7q printed 'Xid 79': <b>fallen off the bus</b>"
        out = {"state": "excluded", "reason": reason}
        slots = (
            SlotInfo(name="train/cpu:0", kind="cpu", state="used", by="trial 4 of digits/reader"),
            SlotInfo(name="train/cpu:1", kind="cpu"),
            SlotInfo(
                name="train/gpu:0", kind="gpu", about="NVIDIA H200, 140 GiB", state="elsewhere"
            ),
            SlotInfo(
                name="train/gpu:1",
                kind="gpu",
                about="NVIDIA H200, 140 GiB",
                **({} if "train/gpu:1" in self.restored else out),
            ),
        )
        waits = tuple(
            Waiting(label=f"trial {n} of digits/reader", priority=5, cpus=1, gpus=2)
            for n in range(5, 7)
        )
        return [
            PoolInfo(
                name="train",
                cpus=2,
                used_cpus=1,
                gpus=2,
                used_gpus=0,
                slots=slots,
                waiting=waits,
                waits=2,
            )
        ]

    def restore_slot(self, slot):
        if slot != "train/gpu:1" or slot in self.restored:
            raise NotFound("slot.not_excluded", f"{slot!r} is no slot that is excluded.")
        self.restored = (*self.restored, slot)
        return self.pools()
