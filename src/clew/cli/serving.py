"""Commands about traffic and feedback.

Knows the verbs; what is printed is made by ``render``.
"""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from clew.base.errors import Invalid, NotFound
from clew.base.records.traffic import Feedback
from clew.cli import render
from clew.cli.frame import Json, console, print_json, workspace

if TYPE_CHECKING:
    from clew.base.records.traffic import FeedbackResult, Outcome, Traffic, TrafficArm


def traffic(
    endpoint: Annotated[str, typer.Argument(help="Name of the endpoint.")],
    weights: Annotated[
        list[str] | None,
        typer.Argument(help="REVISION=PERCENT; 0 takes it off; the live one has the rest."),
    ] = None,
    shadow: Annotated[
        list[str] | None,
        typer.Option("--shadow", help="REVISION or REVISION=PERCENT: it gets copies of requests."),
    ] = None,
    promote: Annotated[str, typer.Option("--promote", help="This revision gets all.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Kept with the change.")] = "",
    json: Json = False,
) -> None:
    """Show or set who gets how much of an endpoint's requests, and the test under way."""
    shares = dict(_share(word) for word in weights or [])
    copies = dict(_share(word, whole=100.0) for word in shadow or [])
    with workspace() as clew:
        found = (
            clew.set_traffic(
                endpoint, weights=shares, shadow=copies, promote=promote, reason=reason
            )
            if shares or copies or promote
            else clew.traffic(endpoint)
        )
    if json:
        print_json(found)
    else:
        _print(found)


def rollout_of(weight: float | None, rollout: str, *, shadow: bool) -> dict[str, object] | None:
    """What the options of a deploy say of how it takes over; None: as the endpoint says."""
    if (weight is not None) + shadow + bool(rollout) > 1 and not (
        weight is not None and rollout == "ab_test"
    ):
        raise Invalid(
            "rollout.definition",
            "--weight, --shadow and --rollout say different things.",
            hint="Give one of them.",
        )
    if rollout.startswith("{"):
        try:
            told: dict[str, object] = jsonlib.loads(rollout)
        except ValueError as error:
            raise Invalid(
                "rollout.definition",
                f"The rollout is not JSON: {error}.",
                hint='Write {"kind": "canary", "steps": [10, 100]}.',
            ) from None
        return told
    if rollout:
        return {"kind": rollout, **({} if weight is None else {"weight": weight})}
    if weight is not None:
        return {"kind": "split", "weight": weight}
    return {"kind": "shadow"} if shadow else None


def arms_of(words: list[str]) -> dict[str, float | None]:
    """Arms of a deploy by what was typed: VERSION or VERSION=PERCENT."""
    found: dict[str, float | None] = {}
    for word in words:
        name, share = _share(word) if "=" in word else (word, None)
        if name in found:
            raise Invalid("rollout.arms", f"{name} is given twice.", hint="Give each arm once.")
        found[name] = share
    return found


def _share(word: str, whole: float | None = None) -> tuple[str, float]:
    name, equals, percent = word.partition("=")
    try:
        if not name or not (equals or whole is not None):
            raise ValueError
        return name, float(percent.rstrip("%")) if equals else float(whole or 0)
    except ValueError:
        raise Invalid(
            "traffic.weights",
            f"{word!r} is not a share.",
            hint="Write REVISION=PERCENT, such as 3=20.",
        ) from None


def _print(found: Traffic) -> None:
    out = console()
    out.print(f"[bold]{found.endpoint}[/]  {found.rollout}  [dim]{found.plan}, {found.state}[/]")
    tested = any(arm.outcomes for arm in found.arms)
    shadowed = any(arm.compared or arm.dropped for arm in found.arms)
    heads = ["revision", "id", "state", "share>", "requests>", "errors>", "NaN>", "90 % within>"]
    lost = any(arm.overloads or arm.expired for arm in found.arms)
    heads += ["429>", "504>"] if lost else []
    heads += ["differ>", "dropped>"] if shadowed else []
    heads += ["outcomes>", "mean>", "from>", "to>", "best>"] if tested else []
    rows = [_row(arm, lost=lost, shadowed=shadowed, tested=tested) for arm in found.arms]
    render.table(out, heads, rows)
    if reason := found.evidence.get("reason"):
        out.print(f"[dim]now[/]  {reason}")
    for change in found.changes[:5]:
        split = "  ".join(f"{name[:8]} {share:g} %" for name, share in change.split.items())
        out.print(f"[dim]{render.ago(change.at)}[/]  {split}  {change.reason}")


def _row(arm: TrafficArm, *, lost: bool, shadowed: bool, tested: bool) -> list[object]:
    share = f"{arm.weight:g} %" + (" copied" if arm.state == "shadow" else "")
    row: list[object] = [
        arm.number, render.ident(arm.revision), render.state(arm.state), share,
        f"{arm.requests:,}", f"{arm.errors:,}", f"{arm.nans:,}",
        "–" if arm.p90_ms is None else f"{arm.p90_ms:.1f} ms",
    ]  # fmt: skip
    if lost:
        row += [f"{arm.overloads:,}", f"{arm.expired:,}"]
    if shadowed:
        row += [f"{arm.disagreed:,} of {arm.compared:,}", f"{arm.dropped:,}"]
    if tested:
        row += [f"{arm.outcomes:,}", *map(render.number, (arm.mean, arm.low, arm.high, arm.best))]
    return row


def feedback(
    prediction: Annotated[
        str, typer.Argument(help="Id of a prediction; @FILE.json or - for a list of feedback.")
    ],
    value: Annotated[
        str | None, typer.Argument(help="What was true: a number, true, false or text.")
    ] = None,
    reward: Annotated[
        float | None, typer.Option("--reward", help="How good the answer was, a number.")
    ] = None,
    row: Annotated[int, typer.Option("--row", min=0, help="Of a request of several rows.")] = 0,
    name: Annotated[str, typer.Option("--name", help="One of several kinds of feedback.")] = "",
    endpoint: Annotated[str, typer.Option("--endpoint", help="Of this endpoint alone.")] = "",
    json: Json = False,
) -> None:
    """Say what became of a prediction; with its id alone, show what is known."""
    batch = prediction == "-" or prediction.startswith("@")
    if value is None and reward is None and not batch:
        _show(prediction, json=json)
        return
    items = (
        _read(prediction)
        if batch
        else [Feedback(id=prediction, label=_label(value), reward=reward, row=row, name=name)]
    )
    with workspace() as clew:
        found = clew.feedback(items, endpoint=endpoint)
    if json:
        print_json(found)
    else:
        _print_fates(found)
    if found.unknown:
        raise NotFound(
            "prediction.unknown",
            f"{len(found.unknown)} of {len(items)} are not in the log: {found.unknown[0]}"
            f"{', …' if len(found.unknown) > 1 else ''}.",
            hint="Ids are in the answers' header clew-prediction-id; clew predictions ENDPOINT.",
        )


def _label(text: str | None) -> object:
    if text is None:
        return None
    try:
        return jsonlib.loads(text)
    except ValueError:
        return text


def _read(place: str) -> list[Feedback]:
    if place == "-":
        text = sys.stdin.read()
    else:
        file = Path(place[1:])
        if not file.is_file():
            raise NotFound("file.missing", f"There is no file {place[1:]!r}.", hint="Check it.")
        text = file.read_text()
    try:
        return msgspec.json.decode(text, type=list[Feedback])
    except msgspec.DecodeError as error:
        raise Invalid(
            "feedback.value",
            f"The feedback cannot be read: {error}.",
            hint='Write [{"id": "p…", "label": 1, "reward": 0.5}, …].',
        ) from None


def _print_fates(found: FeedbackResult) -> None:
    out = console()
    for ids, mark, what in (
        (found.kept, "[green]✓[/]", "kept"),
        (found.known, "[dim]=[/]", "known already"),
        (found.unsampled, "[dim]○[/]", "of predictions that the log's sampling leaves out"),
        (found.unknown, "[red]✗[/]", "not in the log"),
    ):
        if ids:
            out.print(f"{mark} {len(ids):,} {what}")


def _show(prediction: str, *, json: bool) -> None:
    with workspace() as clew:
        found = clew.outcome(prediction)
    if json:
        print_json(found)
        return
    _print_outcome(found)


def _print_outcome(found: Outcome) -> None:
    out = console()
    out.print(
        f"[cyan]{found.id}[/]  {found.endpoint} revision [cyan]{found.revision[:8]}[/]  "
        f"{found.arm}, asked with a chance of {found.propensity:.3g}"
    )
    render.table(
        out,
        ("row>", "name", "label", "reward>", "correct", "error>", "commit", "when"),
        [
            (
                one.row, one.name or "–", "–" if one.label is None else jsonlib.dumps(one.label),
                render.number(one.reward), "–" if one.correct is None else str(one.correct),
                render.number(one.error), render.ident(one.commit), render.ago(one.at),
            )
            for one in found.feedback
        ],
    )  # fmt: skip
