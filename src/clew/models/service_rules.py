"""Rules of a gate about serving: how quick and large a model is, who can ask it, what they get.

Knows no transport: what an endpoint makes of a request is handed in.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import asdict

from clew.base.errors import ClewError, Invalid
from clew.models.compatible import changes
from clew.models.noting import Noting
from clew.models.replaying import Replayed, replay_recorded, replay_rows, shapes_of
from clew.models.timing import Timed, timed

BATCH_ROWS = 100
SAME = 1e-5
"""How far a number may be off: as far as a converted form of a model may (models/parity.py)."""

_QUICKER = "Take fewer or smaller trees, fewer features, or a plainer model; or allow it more."
_SAME = (
    "Make what is served answer as what was trained: put preprocessing into the model that is "
    "returned, and give columns one type."
)


class ServiceRules(Noting):
    """The part of :class:`clew.Candidate` that asks how it will be to serve the model."""

    def latency(
        self,
        max_ms: float | None = None,
        *,
        p50_ms: float | None = None,
        p99_ms: float | None = None,
        batch_ms: float | None = None,
        batch_rows: int = BATCH_ROWS,
        times_champion: float | None = None,
    ) -> None:
        """How long answers may take, in a worker process, without any transport.

        Args:
            max_ms: 95 of 100 single rows must be answered within this.
            p50_ms: Half of them must.
            p99_ms: 99 of 100 must.
            batch_ms: 99 of 100 batches of ``batch_rows`` rows must.
            batch_rows: How many rows a batch has.
            times_champion: The median of single rows may be so many times the champion's, both
                asked in turn in the same process; the first model passes.

        Raises:
            Invalid: ``gate.budget`` without any of them.
        """
        asked = (max_ms, p50_ms, p99_ms, batch_ms, times_champion)
        if all(one is None for one in asked):
            raise Invalid(
                "gate.budget",
                "candidate.latency() names no budget.",
                hint="Give one, such as candidate.latency(p99_ms=20).",
            )
        features = self._bench.frame.drop(self._bench.target)
        champion = self._bench.champion
        other = champion.evaluated if champion and times_champion is not None else None
        mine = self._bench.candidate.model
        if any(one is not None for one in (max_ms, p50_ms, p99_ms, times_champion)):
            found = timed([mine, *([other.model] if other else [])], features)
            self._within("latency", "p95", found[0].p95_ms, max_ms, found[0])
            self._within("latency p50", "p50", found[0].p50_ms, p50_ms, found[0])
            self._within("latency p99", "p99", found[0].p99_ms, p99_ms, found[0])
            if times_champion is not None:
                theirs = found[1] if other else None
                self._against("latency", found[0].p50_ms, theirs, times_champion)
        if batch_ms is not None:
            batch = timed([mine], features, batch_rows)[0]
            self._within(
                "latency batch", f"p99 of {batch.rows} rows", batch.p99_ms, batch_ms, batch
            )

    def size(self, max_bytes: int | None = None, *, times_champion: float | None = None) -> None:
        """How many bytes the packaged model may have: at all, or against the champion's.

        Raises:
            Invalid: ``gate.budget`` without any of them.
        """
        if max_bytes is None and times_champion is None:
            raise Invalid(
                "gate.budget",
                "candidate.size() names no budget.",
                hint="Give one, such as candidate.size(50_000_000).",
            )
        mine, theirs = self._bench.around.size_bytes, self._bench.around.champion_bytes
        evidence = {"size_bytes": mine, "champion_bytes": theirs}
        if max_bytes is not None:
            self._note(
                "size",
                mine <= max_bytes,
                mine,
                f"<= {max_bytes:,} bytes",
                f"The model has {mine:,} bytes; {max_bytes:,} are allowed.",
                evidence,
                next_step="Take fewer or smaller trees or layers, or keep training data out of it.",
            )
        if times_champion is None:
            return
        ratio = mine / theirs if theirs else None
        self._note(
            "size against champion",
            ratio is None or ratio <= times_champion,
            ratio,
            f"<= {times_champion:g} times",
            "There is no champion yet to be compared with."
            if ratio is None
            else f"The model has {mine:,} bytes, the champion {theirs:,}: {ratio:.3g} times, "
            f"{times_champion:g} are allowed.",
            evidence,
            next_step="Take fewer or smaller trees or layers, or keep training data out of it.",
        )

    def compatible(self, *, allow: Sequence[str] = ()) -> None:
        """Whoever asks the champion, or an endpoint of the model, must be able to ask this one.

        Every input must be taken as it was and no other demanded; task, classes and outputs must be
        what they were. The evidence lists each change and whether it breaks callers.

        Args:
            allow: Kinds of change to let pass, such as ``"input added"``: see the evidence.
        """
        bench = self._bench
        mine = bench.candidate
        others = dict(bench.around.endpoints)
        champion = bench.champion
        if champion is not None and champion.signature is not None:
            others = {f"the champion ({champion.name})": champion.signature, **others}
        found = []
        for name, signature in others.items():
            judged = champion.evaluated if champion and signature == champion.signature else None
            gave = shapes_of(judged.outputs) if judged else None
            for change in changes(signature, mine.model.signature, gave, shapes_of(mine.outputs)):
                counts = change.breaking and change.kind not in allow
                found.append({"against": name, **asdict(change), "allowed": not counts})
        broken = [one for one in found if not one["allowed"]]
        told = "; ".join(f"{one['kind']} {one['name']} ({one['detail']})" for one in broken[:5])
        kept = f"Those who ask {' or '.join(others)} can ask it." if others else (
            "Nothing is served yet, and there is no champion."
        )  # fmt: skip
        self._note(
            "compatible",
            not broken,
            len(broken),
            "0 breaking changes",
            f"{len(broken)} changes break callers: {told}." if broken else kept,
            {"changes": found},
            next_step="Keep inputs and outputs as they were, serve it on an endpoint of its own, "
            f"or allow it: candidate.compatible(allow=[{str(broken[0]['kind'])!r}])"
            if broken
            else "",
        )

    def replay(
        self, rows: int = 1000, *, tolerance: float = SAME, recorded: int | None = None
    ) -> None:
        """What is served must answer as what was trained.

        Test rows are asked as an endpoint is: as a v2 request, parsed, checked, predicted. Each
        answer must equal that of the model as the training function returned it. So must those to
        requests that the prediction log has of the champion, which must also be accepted. Where an
        endpoint has functions around its model, its requests go through them on both sides.

        Args:
            rows: How many test rows, spread evenly.
            tolerance: How far numbers may be apart, absolutely and relatively; labels are equal.
            recorded: Of logged requests at most so many, the newest; all that were handed to the
                gate by default.
        """
        around = self._bench.around
        if around.answer is None or around.trained is None:
            self._note("replay", True, None, "equal", "Nothing here can ask as an endpoint does.")
            return
        model = self._bench.candidate.model
        trained = around.trained()
        features = self._bench.frame.drop(self._bench.target)
        found = replay_rows(model, trained, features, around.answer, rows, tolerance)
        self._replayed("replay test rows", "test rows", found, tolerance)
        requests = around.recorded[: len(around.recorded) if recorded is None else recorded]
        if not requests:
            return
        try:
            champion = around.champion_trained() if around.champion_trained else None
        except ClewError:
            champion = None
        plain = [one for one in requests if one.endpoint not in around.functions]
        if plain:
            seen = replay_recorded(model, trained, champion, plain, around.answer, tolerance)
            self._replayed("replay recorded requests", "recorded requests", seen, tolerance)
        for endpoint, put_around in around.functions.items():
            asked = [one for one in requests if one.endpoint == endpoint]
            if asked:
                mine, theirs = put_around(model), put_around(trained)
                before = None if champion is None else put_around(champion)
                seen = replay_recorded(mine, theirs, before, asked, around.answer, tolerance)
                what = f"recorded requests of {endpoint} with its functions"
                self._replayed(f"replay requests of {endpoint}", what, seen, tolerance)

    def _replayed(self, name: str, what: str, found: Replayed, tolerance: float) -> None:
        wrong = found.refused + found.different
        said = f"{found.asked:,} {what} were asked as an endpoint is: "
        if wrong:
            said += f"{found.refused:,} were refused, {found.different:,} answered otherwise"
            said += f" by up to {found.largest:.3g}" if found.largest else ""
            said += f"; {found.example}" if found.example else ""
        else:
            said += "all answers are those of the trained model"
        if found.champion_asked:
            said += (
                f". Of the champion's own answers {found.champion_same:,} of "
                f"{found.champion_asked:,} come out the same"
            )
        self._note(
            name,
            not wrong,
            wrong,
            f"0 differ by more than {tolerance:g}",
            f"{said}.",
            asdict(found),
            next_step=_SAME,
        )

    def _within(
        self, name: str, what: str, seen_ms: float, allowed_ms: float | None, times: Timed
    ) -> None:
        if allowed_ms is None:
            return
        rows = "single rows" if times.rows == 1 else f"batches of {times.rows} rows"
        self._note(
            name,
            seen_ms <= allowed_ms,
            seen_ms,
            f"{what.partition(' ')[0]} <= {allowed_ms:g} ms",
            f"{what[1:3]} of 100 {rows} take up to {seen_ms:.3g} ms; {allowed_ms:g} ms are "
            "allowed.",
            {**asdict(times), "median_ms": times.p50_ms},
            next_step=_QUICKER,
        )

    def _against(self, name: str, seen_ms: float, theirs: Timed | None, allowed: float) -> None:
        ratio = seen_ms / theirs.p50_ms if theirs and theirs.p50_ms else None
        self._note(
            f"{name} against champion",
            ratio is None or ratio <= allowed,
            ratio,
            f"<= {allowed:g} times",
            "There is no champion that can be run on these rows."
            if theirs is None or ratio is None
            else f"A single row takes {seen_ms:.3g} ms, of the champion {theirs.p50_ms:.3g} ms "
            f"(medians, asked in turn): {ratio:.3g} times, {allowed:g} are allowed.",
            {"median_ms": seen_ms, "champion": asdict(theirs) if theirs else None},
            next_step=_QUICKER,
        )
