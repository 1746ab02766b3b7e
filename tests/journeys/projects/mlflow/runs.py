"""Runs and experiments: made, nested, resumed, ended, deleted, restored; what may be logged."""

import mlflow
from mlflow.entities import Metric, Param, RunTag, ViewType

client = mlflow.MlflowClient()


def tags_of(run):
    kept = ("mlflow.source", "mlflow.user", "clew.", "mlflow.git")
    return {k: v for k, v in run.data.tags.items() if not k.startswith(kept)}


def flow(see):
    experiment = mlflow.get_experiment_by_name("runs").experiment_id
    with mlflow.start_run(run_name="parent", description="what it is", tags={"a": "1"}) as parent:
        for number in range(3):
            with mlflow.start_run(run_name=f"child {number}", nested=True) as child:
                mlflow.log_metric("score", number)
    pid, cid = parent.info.run_id, child.info.run_id
    see("parent of a child", lambda: mlflow.get_parent_run(cid).info.run_name)
    see("parent of none", lambda: mlflow.get_parent_run(pid))
    see(
        "children",
        lambda: sorted(
            run.info.run_name
            for run in client.search_runs([experiment], f"tags.mlflow.parentRunId = '{pid}'")
        ),
    )
    with mlflow.start_run(parent_run_id=pid, run_name="by id") as by_id:
        pass
    see("parent by id", lambda: mlflow.get_parent_run(by_id.info.run_id).info.run_name)
    see("tags", lambda: tags_of(mlflow.get_run(pid)))
    lifecycle(see, experiment, pid)
    values(see, experiment)
    batches(see, experiment)
    refusals(see, experiment, pid)
    experiments(see)


def lifecycle(see, experiment, pid):
    def fail():
        with mlflow.start_run(run_name="fails"):
            raise ValueError("no")

    see("failing", fail)
    (failed,) = client.search_runs([experiment], "attributes.run_name = 'fails'")
    see("failed", lambda: failed.info.status)
    with mlflow.start_run(run_id=failed.info.run_id):
        mlflow.log_param("resumed", "yes")
    see("resumed", lambda: client.get_run(failed.info.run_id).info.status)
    see("resumed params", lambda: client.get_run(failed.info.run_id).data.params)
    run = client.create_run(experiment, start_time=5, tags={"t": "1"}, run_name="by client")
    rid = run.info.run_id
    see("made", lambda: [run.info.status, run.info.start_time, run.info.end_time])
    client.set_terminated(rid, "KILLED", end_time=9)
    see("killed", lambda: [client.get_run(rid).info.status, client.get_run(rid).info.end_time])
    client.update_run(rid, status="RUNNING", name="renamed")
    see("updated", lambda: [client.get_run(rid).info.status, client.get_run(rid).info.run_name])
    client.set_tag(rid, "mlflow.runName", "renamed by tag")
    see("name by tag", lambda: client.get_run(rid).info.run_name)
    client.set_tag(rid, "mlflow.note.content", "**bold**")
    client.set_tag(rid, "number", 7)
    client.set_tag(rid, "nothing", None)
    see("tags after", lambda: tags_of(client.get_run(rid)))
    client.delete_tag(rid, "number")
    see("tag gone", lambda: "number" in client.get_run(rid).data.tags)
    see("tag gone twice", lambda: client.delete_tag(rid, "number"))
    client.delete_run(rid)
    see("deleted", lambda: client.get_run(rid).info.lifecycle_stage)
    see("log to deleted", lambda: client.log_metric(rid, "m", 1))
    see("tag to deleted", lambda: client.set_tag(rid, "m", 1))
    see("param to deleted", lambda: client.log_param(rid, "m", 1))
    see("batch to deleted", lambda: client.log_batch(rid, [Metric("m", 1, 1, 1)]))
    for kind in (ViewType.ACTIVE_ONLY, ViewType.DELETED_ONLY, ViewType.ALL):
        found = client.search_runs([experiment], "", run_view_type=kind)
        see(f"view {kind}", lambda found=found: len(found))
    client.restore_run(rid)
    see("restored", lambda: client.get_run(rid).info.lifecycle_stage)
    see("log to restored", lambda: client.log_metric(rid, "m", 1))
    see("last active", lambda: mlflow.last_active_run().info.run_name)
    see("generated name", lambda: len(client.create_run(experiment).info.run_name.split("-")))


def values(see, experiment):
    with mlflow.start_run(run_name="values") as run:
        rid = run.info.run_id
        for step, value in enumerate([float("nan"), float("inf"), -float("inf"), 1e-300, -0.0]):
            mlflow.log_metric("odd", value, step=step)
        mlflow.log_metric("twice", 1.0, step=1, timestamp=1000)
        mlflow.log_metric("twice", 1.0, step=1, timestamp=1000)
        mlflow.log_metric("twice", 2.0, step=1, timestamp=1000)
        mlflow.log_metric("back", 9.0, step=5)
        mlflow.log_metric("back", 1.0, step=-3)
        mlflow.log_metric("a/b c.d-e_f:g", 1)
        mlflow.log_metric("Größe/Wert", 1.5)
        mlflow.log_metrics({"x": 1, "y": True}, step=2)
        mlflow.log_params({"int": 1, "none": None, "list": [1, "a"], "text": "ö" * 10, "empty": ""})
        mlflow.log_param("long", "x" * 6000)
        mlflow.log_metric("later", 1.0, synchronous=False).wait()
        mlflow.log_params({"p": 1}, synchronous=False).wait()
        mlflow.set_tag("emoji", "🦉")
        mlflow.set_tags({"one": 1, "two": [2]})
        mlflow.set_tag("long", "x" * 8000)
    found = client.get_run(rid)
    see("metrics", lambda: dict(sorted(found.data.metrics.items())))
    see("params", lambda: {k: v[:50] for k, v in sorted(found.data.params.items())})
    see("param length", lambda: len(found.data.params["long"]))
    see("tag values", lambda: {k: v[:50] for k, v in tags_of(found).items()})
    for key in ("odd", "twice", "back", "nowhere"):
        see(
            f"history of {key}",
            lambda key=key: sorted(
                [str(one.value), one.step] for one in client.get_metric_history(rid, key)
            ),
        )


def batches(see, experiment):
    run = client.create_run(experiment, run_name="batches")
    rid = run.info.run_id
    see(
        "a batch",
        lambda: client.log_batch(
            rid,
            [Metric(f"m{n}", n / 7, 100 + n, n) for n in range(300)],
            [Param(f"p{n}", str(n)) for n in range(100)],
            [RunTag(f"t{n}", str(n)) for n in range(100)],
        ),
    )
    found = client.get_run(rid).data
    see(
        "its sizes",
        lambda: [len(found.metrics), len(found.params), len(tags_of(client.get_run(rid)))],
    )
    see(
        "too many metrics",
        lambda: client.log_batch(rid, [Metric("m", 1, 1, n) for n in range(1001)]),
    )
    see(
        "too many params",
        lambda: client.log_batch(rid, params=[Param(f"q{n}", "1") for n in range(101)]),
    )
    see(
        "a changed param",
        lambda: client.log_batch(rid, params=[Param("p1", "other"), Param("new", "1")]),
    )
    see("none of it is there", lambda: "new" in client.get_run(rid).data.params)
    see(
        "the same param twice",
        lambda: client.log_batch(rid, params=[Param("d", "1"), Param("d", "2")]),
    )
    see(
        "a thousand steps",
        lambda: client.log_batch(rid, [Metric("s", n, n, n) for n in range(1000)]),
    )
    see("are a thousand", lambda: len(client.get_metric_history(rid, "s")))
    see("the last counts", lambda: client.get_run(rid).data.metrics["s"])
    see("an empty batch", lambda: client.log_batch(rid))


def refusals(see, experiment, pid):
    see("unknown run", lambda: client.get_run("0" * 32))
    see("log to unknown run", lambda: client.log_metric("0" * 32, "m", 1))
    see("param of unknown run", lambda: client.log_param("0" * 32, "m", 1))
    see("a bad key", lambda: client.log_metric(pid, "a;b", 1))
    see("a path as a key", lambda: client.log_metric(pid, "../b", 1))
    see("a bad value", lambda: client.log_metric(pid, "m", "high"))
    see("a bad step", lambda: client.log_metric(pid, "m", 1, step="x"))
    see("a long key", lambda: client.log_metric(pid, "k" * 251, 1))
    see("a long param", lambda: client.log_param(pid, "p", "x" * 6001))
    see("a long tag", lambda: len(client.set_tag(pid, "p", "x" * 8001) or ""))
    see("a long tag is", lambda: len(client.get_run(pid).data.tags["p"]))
    see("a param again", lambda: client.log_param(pid, "same", "1"))
    see("the same again", lambda: client.log_param(pid, "same", "1"))
    see("another", lambda: client.log_param(pid, "same", "2"))
    see("a bad status", lambda: client.set_terminated(pid, "DONE"))
    see("a bad experiment", lambda: client.create_run("99999"))


def experiments(see):
    made = client.create_experiment("an experiment", tags={"team": "delays"})
    see("made again", lambda: client.create_experiment("an experiment"))
    see("an empty name", lambda: client.create_experiment(""))
    found = client.get_experiment(made)
    see("experiment", lambda: [found.name, found.tags, found.lifecycle_stage])
    client.set_experiment_tag(made, "more", "x")
    mlflow.set_experiment("an experiment")
    mlflow.set_experiment_tags({"even": "more"})
    see("experiment tags", lambda: dict(sorted(client.get_experiment(made).tags.items())))
    client.delete_experiment_tag(made, "more")
    see("a tag less", lambda: dict(sorted(client.get_experiment(made).tags.items())))
    client.rename_experiment(made, "renamed experiment")
    see("renamed experiment", lambda: client.get_experiment_by_name("renamed experiment").name)
    see("unknown experiment", lambda: client.get_experiment("99999"))
    see("unknown name", lambda: client.get_experiment_by_name("nobody"))
    client.delete_experiment(made)
    see("experiment deleted", lambda: client.get_experiment(made).lifecycle_stage)
    see("run in deleted", lambda: client.create_run(made))
    see("set deleted", lambda: mlflow.set_experiment("renamed experiment"))
    client.restore_experiment(made)
    see("experiment restored", lambda: client.get_experiment(made).lifecycle_stage)
    mlflow.set_experiment("runs")
    for text in (
        "name LIKE '%experiment'",
        "name ILIKE 'RENAMED%'",
        "tags.team = 'delays'",
        "tags.team != 'delays'",
        "name = 'runs' AND creation_time > 0",
        "tags.team IS NOT NULL",
        "nonsense = 1",
    ):
        see(
            f"experiments where {text}",
            lambda text=text: [
                one.name for one in client.search_experiments(filter_string=text, order_by=["name"])
            ],
        )
    page = client.search_experiments(max_results=1, order_by=["experiment_id"])
    see("a page of experiments", lambda: [len(page), bool(page.token)])
