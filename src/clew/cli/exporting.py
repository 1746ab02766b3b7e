"""Commands that hand work to other systems.

Knows the verbs; what they give is printed as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from json import dumps, loads
from pathlib import Path
from typing import Annotated, Any

import typer

from clew.cli.frame import Json, console, print_json, workspace
from clew.cli.work import values_of

_HELP = "For other systems: a TrainJob of Kubeflow, a model for KServe, a dashboard for Grafana."
export = typer.Typer(help=_HELP, no_args_is_help=True)


@export.callback()
def _export() -> None:
    """For other systems: a TrainJob of Kubeflow, a model for KServe, a dashboard for Grafana."""


@export.command()
def trainjob(
    model: Annotated[
        str, typer.Argument(help="A training step, or a version: shop/model@3.", metavar="MODEL")
    ],
    image: Annotated[
        str, typer.Option("--image", help="With the project's packages; else the runtime's own.")
    ] = "",
    runtime: Annotated[
        str, typer.Option("--runtime", help="The ClusterTrainingRuntime.")
    ] = "torch-distributed",
    namespace: Annotated[str, typer.Option("--namespace", help="Of the cluster.")] = "",
    name: Annotated[str, typer.Option("--name", help="Of the TrainJob.")] = "",
    nodes: Annotated[int, typer.Option("--nodes", min=0, help="Pods; 0: one a rank.")] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="In place of a parameter; repeatable."),
    ] = None,
    store: Annotated[str, typer.Option("--store", help="Where pods reach the bytes.")] = "",
    url: Annotated[
        str, typer.Option("--url", help="Where pods reach the server: results are committed.")
    ] = "",
    secret: Annotated[
        str, typer.Option("--secret", help="A Secret of the cluster for variables of the pods.")
    ] = "",
    key: Annotated[
        list[str] | None,
        typer.Option("--key", help="A key of it, which becomes a variable; repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the manifest to this file.")
    ] = None,
    json: Json = False,
) -> None:
    """A Kubeflow TrainJob that repeats the training of a model version, on rows and code of then.

    Example: clew export trainjob shop/model --image registry.example/shop:1 --out trainjob.yaml
    """
    with workspace() as clew:
        made = import_module("clew.base.records.exports").TrainJobWish  # help pays for no records
        wish = made(
            image=image,
            runtime=runtime,
            namespace=namespace,
            name=name,
            nodes=nodes,
            params={one: _value(text) for one, text in values_of(set_).items()},
            store=store,
            url=url,
            secret=secret,
            secret_keys=tuple(key or ()),
        )
        manifest = clew.export_trainjob(model, wish).manifest
    if out is not None:
        out.write_text(yaml_of(manifest))
    if json:
        print_json(manifest)
    elif out is None:
        typer.echo(yaml_of(manifest), nl=False)
    else:
        console().print(f"[green]✓[/] {out}: kubectl apply -f {out}")


@export.command()
def inferenceservice(
    subject: Annotated[
        str,
        typer.Argument(help="An endpoint, or a version: shop/model@champion.", metavar="SUBJECT"),
    ],
    mode: Annotated[
        str, typer.Option("--mode", help="standard (Deployments) or knative.")
    ] = "standard",
    name: Annotated[str, typer.Option("--name", help="Of the InferenceService.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Of the cluster.")] = "",
    canary: Annotated[
        int, typer.Option("--canary", help="Percent of the traffic for a version (Knative).")
    ] = 0,
    storage_uri: Annotated[
        str,
        typer.Option("--storage-uri", help="Where KServe finds the model; else the S3 gateway."),
    ] = "",
    service_account: Annotated[
        str, typer.Option("--service-account", help="Whose Secret has the keys of the gateway.")
    ] = "",
    runtime: Annotated[
        str, typer.Option("--runtime", help="A ServingRuntime; else KServe chooses.")
    ] = "",
    image: Annotated[
        str, typer.Option("--image", help="Of clew image: it serves, in place of a runtime.")
    ] = "",
    min_replicas: Annotated[int, typer.Option("--min-replicas", help="0: to zero.")] = 1,
    max_replicas: Annotated[int, typer.Option("--max-replicas", help="0: KServe's own.")] = 0,
    cpu: Annotated[str, typer.Option("--cpu", help="Of a replica, such as 500m.")] = "",
    memory: Annotated[str, typer.Option("--memory", help="Of a replica, such as 1Gi.")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the manifests to this file.")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Give them to the cluster.")] = False,
    context: Annotated[str, typer.Option("--context", help="Of the kubeconfig.")] = "",
    json: Json = False,
) -> None:
    """A KServe InferenceService for what is blessed here: KServe reads the version's own commit.

    Example: clew export inferenceservice shop/model@champion --service-account clew --apply
    """
    with workspace() as clew:
        made = import_module("clew.base.records.exports").InferenceServiceWish
        wish = made(
            mode=mode,
            name=name,
            namespace=namespace,
            canary=canary,
            storage_uri=storage_uri,
            service_account=service_account,
            runtime=runtime,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            cpu=cpu,
            memory=memory,
            image=image,
        )
        manifests = clew.export_inference_service(subject, wish).manifests
    text = "---\n".join(yaml_of(one) for one in manifests)
    if out is not None:
        out.write_text(text)
    if json:
        print_json({"manifests": manifests})
    elif out is None and not apply:
        typer.echo(text, nl=False)
    elif out is not None:
        console().print(f"[green]✓[/] {out}: kubectl apply -f {out}")
    if apply:
        for one in import_module("clew.cli.cluster").apply(manifests, context):
            console(stderr=json).print(f"[green]✓[/] {one} applied")


@export.command()
def grafana(
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the dashboard to this file.")
    ] = None,
) -> None:
    """A Grafana dashboard over the metrics of endpoints, as JSON; it needs no workspace.

    Example: clew export grafana --out endpoints.json
    """
    text = dumps(import_module("clew.serving").dashboard(), indent=2)
    if out is None:
        typer.echo(text)
    else:
        out.write_text(text + "\n")
        console().print(f"[green]✓[/] {out}: import it in Grafana (Dashboards, New, Import)")


def yaml_of(value: Mapping[str, Any]) -> str:
    """Plain data as YAML in blocks; scalars are written as in JSON, which YAML reads the same."""
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, one in value.items():
            yield from _under(f"{key}:", one)
    elif isinstance(value, list | tuple) and value:
        for one in value:
            first, *rest = _lines(one)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
    else:
        yield dumps(value, ensure_ascii=False)


def _under(head: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping | list | tuple) and value:
        yield head
        yield from (f"  {line}" for line in _lines(value))
    else:
        yield f"{head} {dumps(value, ensure_ascii=False)}"


def _value(text: str) -> object:
    """What is JSON as that, else a text."""
    try:
        return loads(text)
    except ValueError:
        return text
