"""What comes in by itself, by hand: a source, two triggers, their firings."""

from datetime import timedelta

from msgspec.structs import replace

from clew.base.clock import now
from clew.base.errors import NotFound
from clew.base.records.feeds import FiringInfo, SourceInfo, TriggerInfo

P = "late-flights"
FIRING = "f1r1ngz8k2m4q6w9"


class Incoming:
    """The verbs of sources and triggers, over lists that :meth:`_fill_incoming` makes."""

    def _fill_incoming(self, commit, change):
        ago = now() - timedelta(minutes=7)
        self.source_list = [
            SourceInfo(
                name=f"{P}/orders", kind="database", place="postgresql://shop/orders",
                repo=f"{P}/flights", branch="main", state="failing", polled_at=ago,
                committed_at=ago, commit=commit, commits=3, items=1204, size_bytes=49_152, lag=12,
                note="", error="The server refused the connection.", error_code="source.down",
                failures=2, next_at=now() + timedelta(seconds=30), position={"id": 1204},
            )
        ]  # fmt: skip
        self.trigger_list = [
            TriggerInfo(
                name="nightly", pipeline=P, state="active", when="schedule 0 3 * * *",
                action="run clean", cooldown_s=0.0, limit="", progress=("schedule: waits",),
                fired=2, fired_at=ago, next_at=now() + timedelta(hours=5),
            ),
            TriggerInfo(
                name="enough", pipeline=P, state="paused", when="3 rows on late-flights/flights",
                action="retrain", cooldown_s=3600.0, limit="3 in 86400 s",
                progress=("amount: 2 of 3 rows",), fired=1, fired_at=None, next_at=None,
                held="until tomorrow",
            ),
        ]  # fmt: skip
        self.firing_list = [
            FiringInfo(
                id=FIRING, trigger="enough", pipeline=P, causes=(f"commit/{commit}", "event/7"),
                global_id=change, action="retrain", state="done",
                reason="enough: 3 rows came to <b>flights</b>", attempts=1, error="",
                effect="trains model of late-flights", change=change, created_at=ago,
                finished_at=ago,
            ),
            FiringInfo(
                id="f2r2ngz8k2m4q6w9", trigger="nightly", pipeline=P,
                causes=("tick/0/2013-06-01T03:00:00Z",), global_id=change, action="run clean",
                state="failed", reason="nightly: the schedule", attempts=5,
                error="step.unknown: no step clean", effect="", change="", created_at=ago,
                finished_at=ago,
            ),
        ]  # fmt: skip

    def triggers(self):
        return [] if self.empty else self.trigger_list

    def trigger(self, name):
        for one in self.triggers():
            if name in (one.name, f"{one.pipeline}/{one.name}"):
                return one
        raise NotFound("trigger.unknown", f"There is no trigger {name}.", hint="clew triggers")

    def firings(self, trigger=None, *, limit=100):
        found = [] if self.empty else self.firing_list
        return [
            one for one in found if trigger in (None, one.trigger, f"{one.pipeline}/{one.trigger}")
        ]

    def pause_trigger(self, name, *, paused=True):
        self.asked.append(("pause_trigger", name, paused))
        at = self.trigger_list.index(self.trigger(name))
        state = "paused" if paused else "active"
        self.trigger_list[at] = replace(self.trigger_list[at], state=state)
        return self.trigger_list[at]

    def fire_trigger(self, name, *, reason=""):
        self.asked.append(("fire_trigger", name, reason))
        return self.firing_list[0]

    def sources(self):
        return [] if self.empty else self.source_list

    def source(self, name):
        for one in self.sources():
            if name in (one.name, one.name.rpartition("/")[2]):
                return one
        raise NotFound("source.unknown", f"There is no source {name}.", hint="clew sources")

    def pause_source(self, name, *, paused=True):
        self.asked.append(("pause_source", name, paused))
        at = self.source_list.index(self.source(name))
        state = "paused" if paused else "waiting"
        self.source_list[at] = replace(self.source_list[at], state=state)
        return self.source_list[at]

    def poll_source(self, name):
        self.asked.append(("poll_source", name))
        return []
