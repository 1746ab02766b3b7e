"""Commands about models and endpoints: predict, deploy, rollback, models, endpoints, drift.

Knows the verbs; what is printed is made by ``render``.
"""

from __future__ import annotations

import json as jsonlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.text import Text

from clew.base.errors import Invalid, NotFound
from clew.base.ids import is_prediction_id
from clew.cli import render, reporting
from clew.cli.frame import Json, console, print_json, workspace
from clew.cli.parity import print_parity
from clew.cli.serving import arms_of, rollout_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clew.base.records import ModelVersion, PredictResult, Verdict

EndpointName = Annotated[str, typer.Argument(help="Name of the endpoint.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1)]


def predict(
    endpoint: EndpointName,
    rows: Annotated[
        str, typer.Argument(help="JSON rows, '[{\"x\": 1}]'; or @FILE.json; or - for stdin.")
    ],
    json: Json = False,
) -> None:
    """Ask an endpoint; the answer has an id that `clew why` explains."""
    asked = read_rows(rows)
    with workspace() as clew:
        answer = clew.predict(endpoint, asked)
    if json:
        print_json(answer)
        return
    out = console()
    columns = dict(_columns(answer))
    render.table(out, [f"{name}>" for name in columns], zip(*columns.values(), strict=True))
    out.print(
        f"[dim]prediction[/] [cyan]{answer.prediction_id}[/]  [dim]change[/] "
        f"[cyan]{answer.global_id[:8]}[/]  [dim]try[/] clew why {answer.prediction_id}"
    )


def _columns(answer: PredictResult) -> Iterator[tuple[str, list[str]]]:
    """Each output with its values as text; a classifier's probabilities by the names of classes."""
    for name, values in answer.outputs.items():
        classes = answer.classes.get(name, [])
        if not classes or not isinstance(values[0], list):
            heading = f"{name} of {classes[0]}" if len(classes) == 1 else name
            yield heading, [render.number(value) for value in values]
            continue
        for at, one in enumerate(classes):
            yield (
                f"probability of {one}",
                [render.number(cast("list[object]", row)[at]) for row in values],
            )


_LONGEST_NAME = 255  # bytes; what is longer is no name of a file


def read_rows(text: str) -> list[dict[str, object]]:
    """Rows of JSON, of a file or of standard input. Raises as the commands that take them."""
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        file = Path(text[1:])
        if not file.is_file():
            raise NotFound(
                "file.missing", f"There is no file {text[1:]!r}.", hint="Check the path."
            )
        text = file.read_text(errors="replace")
    try:
        value = jsonlib.loads(text)
    except ValueError as error:
        hint = 'Write [{"column": value, …}], or @rows.json.'
        if len(os.fsencode(text)) <= _LONGEST_NAME and Path(text).is_file():
            hint = f"There is a file of that name: write @{text}."
        raise Invalid("predict.rows", f"The rows are not JSON: {error}.", hint=hint) from None
    rows = value if isinstance(value, list) else [value]
    for number, row in enumerate(rows):
        if not isinstance(row, dict | list):
            raise Invalid(
                "predict.rows",
                f"Row {number} is {jsonlib.dumps(row)[:40]}, not an object or a list.",
                hint='Write [{"column": value, …}], or @rows.json.',
            )
    return rows


def deploy(
    endpoint: EndpointName,
    version: Annotated[
        str,
        typer.Argument(help="Model version: its id, model@3, model@champion; or graph:ENDPOINT."),
    ] = "",
    override_by: Annotated[str, typer.Option("--by", help="Who overrides a refusal.")] = "",
    override_reason: Annotated[str, typer.Option("--reason", help="Why, kept for good.")] = "",
    champion: Annotated[
        bool, typer.Option("--champion", help="Compare later versions with it from now on.")
    ] = False,
    weight: Annotated[
        float | None, typer.Option("--weight", help="It gets this percentage of the requests.")
    ] = None,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="It gets copies of the requests, and no say.")
    ] = False,
    rollout: Annotated[
        str,
        typer.Option(
            "--rollout", help="How it takes over: a kind (canary, ab_test, bandit, …) or its JSON."
        ),
    ] = "",
    arm: Annotated[
        list[str] | None,
        typer.Option("--arm", help="VERSION or VERSION=PERCENT; several come together."),
    ] = None,
    json: Json = False,
) -> None:
    """Put a model version on an endpoint; one that was refused needs --by and --reason.

    With --arm several come together, as arms of an A/B test (or of --rollout, or --shadow).
    """
    asked = rollout_of(weight, rollout, shadow=shadow)
    if arm or not version:
        _deploy_arms(
            endpoint, version, arm or [], asked, by=override_by, reason=override_reason, json=json,
            alone=champion or weight is not None,
        )  # fmt: skip
        return
    with workspace() as clew:
        revision = clew.deploy(
            endpoint,
            version,
            override_by=override_by,
            override_reason=override_reason,
            champion=champion,
            rollout=asked,
        )
        found = clew.model(revision.model_version) if revision.model_version else None
    if json:
        print_json(revision)
        return
    out = console()
    out.print(
        f"[green]✓[/] {endpoint} revision {revision.number} [cyan]{revision.id[:8]}[/]  "
        f"{revision.state}, {revision.traffic:g} % of traffic"
    )
    if found is not None and found.state == "overridden" and "champion" not in found.aliases:
        out.print(
            "[dim]  later versions are still compared with the champion "
            f"({found.model}@champion); --champion makes it this one[/]"
        )


def _deploy_arms(
    endpoint: str,
    version: str,
    arms: list[str],
    rollout: dict[str, object] | None,
    *,
    by: str,
    reason: str,
    json: bool,
    alone: bool,
) -> None:
    if version or not arms or alone:
        raise Invalid(
            "rollout.arms",
            "One version is given by itself, several by --arm, without --weight or --champion.",
            hint=f"Write clew deploy {endpoint} VERSION, or --arm VERSION=PERCENT for each.",
        )
    with workspace() as clew:
        told = arms_of(arms)
        found = clew.deploy_arms(
            endpoint, told, rollout=rollout, override_by=by, override_reason=reason
        )
    if json:
        print_json(found)
        return
    for one in found:
        console().print(
            f"[green]✓[/] {endpoint} revision {one.number} [cyan]{one.id[:8]}[/]  {one.state}, "
            f"{one.traffic:g} % of traffic"
        )


def rollback(
    endpoint: EndpointName,
    reason: Annotated[str, typer.Option("--reason", help="Kept with the revision.")] = "",
    json: Json = False,
) -> None:
    """Give all traffic back to the revision before."""
    with workspace() as clew:
        revision = clew.rollback(endpoint, reason=reason)
    if json:
        print_json(revision)
    else:
        console().print(f"[green]↩[/] {endpoint} is back on revision {revision.number}")


def models(
    model: Annotated[str | None, typer.Argument(help="Of this model alone.")] = None,
    where: Annotated[
        str,
        typer.Option("--where", help="Such as \"metrics.roc_auc > 0.9 and state = 'blessed'\"."),
    ] = "",
    json: Json = False,
) -> None:
    """List model versions with their metrics on the frozen test commit."""
    with workspace() as clew:
        found = clew.models(model, where=where)
    if json:
        print_json(found)
    else:
        print_versions(found)


def print_versions(found: list[ModelVersion]) -> None:
    """A table of model versions."""
    names = sorted({name for version in found for name in version.metrics})[:4]
    render.table(
        console(),
        ("version", "id", "change", "state", "alias", *(f"{n}>" for n in names), "when"),
        [
            (
                f"{v.model}@{v.version}",
                render.ident(v.id),
                render.ident(v.global_id),
                render.state(v.state),
                " ".join(v.aliases),
                *(render.number(v.metrics.get(name)) for name in names),
                render.ago(v.created_at),
            )
            for v in found
        ],
    )


def model(
    ref: Annotated[str, typer.Argument(help="Its id, model@3 or model@champion.")],
    report: Annotated[
        bool, typer.Option("--report", help="Metrics with intervals, slices, curves.")
    ] = False,
    json: Json = False,
) -> None:
    """One model version: parameters, the form that serves, and the verdict with its reasons."""
    if report:
        reporting.show(ref, as_json=json)
        return
    with workspace() as clew:
        found = clew.model(ref)
        verdict = clew.verdict(found.verdict) if found.verdict else None
        parity = clew.card(found.id).things.parity
    if json:
        print_json({"model_version": found, "verdict": verdict, "parity": parity})
        return
    print_versions([found])
    out = console()
    out.print(
        "[dim]params[/]", "  ".join(f"{k}={render.number(v)}" for k, v in found.params.items())
    )
    if parity:
        print_parity(parity)
    if verdict:
        print_verdict(verdict)


def print_verdict(verdict: Verdict) -> None:
    """The rules of a gate with what was seen."""
    out = console()
    said = "[green]✓ blessed[/]" if verdict.blessed else "[yellow]✗ refused[/]"
    out.print(f"{said}  verdict [cyan]{verdict.id[:8]}[/]")
    render.table(
        out,
        ("", "rule", "seen>", "required", "reason"),
        [
            (
                render.mark("done" if c.passed else "refused"),
                c.name,
                render.number(c.observed),
                c.required,
                c.reason,
            )
            for c in verdict.checks
        ],
    )
    for step in dict.fromkeys(c.next_step for c in verdict.checks if c.next_step):
        out.print(Text(f"→ {step}", style="dim"), soft_wrap=True)
    if verdict.overridden_by:
        out.print(f"[yellow]! overridden by {verdict.overridden_by}: {verdict.override_reason}[/]")


def endpoints(json: Json = False) -> None:
    """List endpoints with their revisions and traffic."""
    with workspace() as clew:
        found = clew.endpoints()
    if json:
        print_json(found)
        return
    out = console()
    for one in found:
        out.print(f"[bold]{one.name}[/]  [dim]{one.rollout}[/]  {one.place}")
        lost = any(r.overloads or r.expired for r in one.revisions)
        render.table(
            out,
            (
                "revision",
                "id",
                "model version",
                "state",
                "traffic>",
                "requests>",
                "errors>",
                *(("429>", "504>") if lost else ()),
                "why",
            ),
            [
                (
                    r.number,
                    render.ident(r.id),
                    render.ident(r.model_version),
                    render.state(r.state),
                    f"{r.traffic:g} %",
                    f"{r.requests:,}",
                    f"{r.errors:,}",
                    *((f"{r.overloads:,}", f"{r.expired:,}") if lost else ()),
                    r.reason,
                )
                for r in one.revisions
            ],
        )


def predictions(
    endpoint: Annotated[str, typer.Argument(help="Name of the endpoint; or id of a prediction.")],
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """The latest logged predictions of an endpoint; or one by its id."""
    with workspace() as clew:
        by_id = is_prediction_id(endpoint)
        found = [clew.prediction(endpoint)] if by_id else clew.predictions(endpoint, limit=limit)
    if json:
        print_json(found)
        return
    render.table(
        console(),
        ("prediction", "change", "revision", "when", "took>", "outputs"),
        [
            (
                p.id,
                render.ident(p.global_id),
                render.ident(p.revision),
                render.ago(p.at),
                f"{p.latency_ms:.1f} ms",
                "  ".join(f"{k}={render.number(v[0]) if v else '–'}" for k, v in p.outputs.items()),
            )
            for p in found
        ],
    )


def drift(
    endpoint: Annotated[str | None, typer.Argument(help="Of this endpoint alone.")] = None,
    limit: Limit = 10,
    json: Json = False,
) -> None:
    """Drift reports, newest first."""
    with workspace() as clew:
        found = clew.drift(endpoint, limit=limit)
    if json:
        print_json(found)
        return
    render.table(
        console(),
        ("report", "change", "endpoint", "rows>", "drift", "columns", "then", "when"),
        [
            (
                render.ident(r.id),
                render.ident(r.global_id),
                r.endpoint,
                f"{r.rows:,}",
                "yes" if r.drifted else "no",
                " ".join(f"{c.column} {c.value:.2f}" for c in r.columns if c.drifted)[:60] or "–",
                r.action or "–",
                render.ago(r.created_at),
            )
            for r in found
        ],
    )
