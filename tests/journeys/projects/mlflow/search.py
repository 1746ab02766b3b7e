"""The filter grammar of searches over runs: every comparator of every kind, order, pages."""

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag

client = mlflow.MlflowClient()

FILTERS = [
    "",
    *(f"metrics.loss {comparator} 0.3" for comparator in (">", ">=", "<", "<=", "=", "!=")),
    "metrics.`val/loss 2` < 2",
    'metrics."val/loss 2" >= 2',
    "metric.loss < 0.3",
    "params.lr = '0.1'",
    "params.lr != '0.1'",
    "params.lr LIKE '0.%'",
    "params.lr ILIKE '0._'",
    "params.optimizer LIKE 'Ad%'",
    "params.optimizer ILIKE 'ad%'",
    "params.rare IS NULL",
    "params.rare IS NOT NULL",
    "param.lr = '0.1'",
    "parameters.lr = '0.1'",
    "tags.team = 'owls'",
    "tags.team != 'owls'",
    "tags.team LIKE 'ow%'",
    "tags.team ILIKE 'OW%'",
    "tags.rare IS NULL",
    "tags.rare IS NOT NULL",
    "tags.`with space` = 'x'",
    "tag.team = 'owls'",
    "attributes.status = 'FINISHED'",
    "attributes.status != 'FINISHED'",
    "status LIKE 'F%'",
    "attributes.run_name = 'run 1'",
    "attributes.run_name LIKE 'run%'",
    "attributes.run_name ILIKE 'RUN 1'",
    "attributes.run_name IN ('run 1', 'run 3')",
    "run_name = 'run 2'",
    "attributes.`run name` = 'run 2'",
    "attributes.start_time > 1002",
    "attributes.start_time >= 1002 and attributes.start_time != 1003",
    "attributes.end_time <= 2002",
    "start_time = 1001",
    "created < 1002",
    "attributes.artifact_uri LIKE '%artifacts'",
    "attributes.user_id = 'nobody'",
    "attributes.run_id IN ('RUN1', 'RUN3')",
    "attributes.run_id NOT IN ('RUN1', 'RUN3')",
    "attributes.run_id = 'RUN1'",
    "datasets.name = 'flights'",
    "dataset.name LIKE 'fl%'",
    "datasets.name ILIKE 'FL%'",
    "datasets.digest = 'abc1'",
    "datasets.digest IN ('abc1', 'abc2')",
    "datasets.name NOT IN ('flights')",
    "datasets.context = 'train'",
    "datasets.context != 'train'",
    "datasets.name = 'flights' AND metrics.loss < 0.3",
    "metrics.loss < 0.4 AND params.lr = '0.1' and tags.team = 'owls'",
    'params.name = "it\'s"',
    "params.percent LIKE '100\\%'",
    "params.umlaut = 'größe'",
    # What is wrong, and how a client is told.
    "metrics.loss < 'x'",
    "metrics.loss LIKE 'x'",
    "params.lr < 0.1",
    "params.lr = 0.1",
    "tags.team > 'a'",
    "metrics.loss < 1 OR metrics.loss > 2",
    "nothing.loss = 1",
    "loss",
    "metrics.loss =",
    "attributes.nothing = 'x'",
    "attributes.status IN ('FINISHED')",
    "params.lr IN ('0.1')",
    "datasets.nothing = 'x'",
    "metrics.nowhere > 0",
    "; DROP TABLE runs",
]
ORDERS = [
    ["metrics.loss"],
    ["metrics.loss DESC"],
    ["metrics.loss ASC", "attributes.start_time DESC"],
    ["params.lr DESC", "start_time"],
    ["tags.team", "start_time DESC"],
    ["attributes.start_time"],
    ["start_time DESC"],
    ["attributes.end_time DESC"],
    ["attribute.run_name DESC"],
    ["run_name"],
    ["metrics.nowhere", "start_time"],
    ["metrics.`val/loss 2` DESC"],
    ["nonsense"],
    ["metrics.loss SIDEWAYS"],
]


def flow(see):
    experiment = mlflow.get_experiment_by_name("search").experiment_id
    other = client.create_experiment("search elsewhere")
    runs = []
    for number in range(5):
        tags = {"team": "owls" if number % 2 else "larks", "with space": "x"}
        run = client.create_run(experiment, 1000 + number, tags, run_name=f"run {number}")
        rid = run.info.run_id
        runs.append(rid)
        client.log_metric(rid, "loss", [0.1, 0.3, float("nan"), 0.5, 0.2][number], 1, 1)
        client.log_metric(rid, "val/loss 2", number)
        client.log_param(rid, "lr", ["0.1", "0.5", "0.1", "1", "0.10"][number])
        client.log_param(rid, "optimizer", ["Adam", "adam", "SGD", "Adagrad", "sgd"][number])
        source = Dataset("flights" if number < 3 else "Planes", f"abc{number}", "local", "{}")
        context = InputTag("mlflow.data.context", "train" if number % 2 == 0 else "test")
        client.log_inputs(rid, [DatasetInput(source, [context])])
        client.set_terminated(rid, "FINISHED" if number else "FAILED", 2000 + number)
    client.log_param(runs[2], "rare", "1")
    client.set_tag(runs[2], "rare", "1")
    client.log_param(runs[3], "name", "it's")
    client.log_param(runs[3], "percent", "100%")
    client.log_param(runs[4], "umlaut", "größe")
    for text in FILTERS:
        asked = text.replace("RUN1", runs[1]).replace("RUN3", runs[3])
        see(
            f"where {text}",
            lambda asked=asked: names(
                client.search_runs([experiment], asked, order_by=["start_time"])
            ),
        )
    for order in ORDERS:
        see(
            f"by {order}",
            lambda order=order: names(client.search_runs([experiment], order_by=order)),
        )
    client.create_run(other, 1, run_name="elsewhere")
    see("over two", lambda: names(client.search_runs([experiment, other], order_by=["start_time"])))
    see("over none", lambda: names(client.search_runs([])))
    see("over an unknown one", lambda: names(client.search_runs(["98765"])))
    pages(see, experiment)
    frames(see)


def names(runs):
    return [run.info.run_name for run in runs]


def pages(see, experiment):
    found, token, sizes = [], None, []
    while True:
        page = client.search_runs(
            [experiment], max_results=2, order_by=["metrics.loss"], page_token=token
        )
        found += names(page)
        sizes.append(len(page))
        token = page.token
        if not token:
            break
    see("pages", lambda: [found, sizes])
    see("a bad token", lambda: client.search_runs([experiment], page_token="nonsense"))
    see("too many results", lambda: client.search_runs([experiment], max_results=50001))
    see("no results", lambda: client.search_runs([experiment], max_results=0))


def frames(see):
    frame = mlflow.search_runs(
        experiment_names=["search"], filter_string="metrics.loss < 0.4", order_by=["start_time"]
    )
    see(
        "columns",
        lambda: sorted(c for c in frame.columns if not c.startswith(("tags.mlflow", "tags.clew"))),
    )
    see("values", lambda: frame["metrics.loss"].tolist())
    see("many", lambda: len(mlflow.search_runs(experiment_names=["search"], max_results=3)))
    see(
        "all experiments",
        lambda: len(
            mlflow.search_runs(search_all_experiments=True, filter_string="tags.team = 'owls'")
        ),
    )
    see(
        "as a list",
        lambda: names(
            mlflow.search_runs(
                experiment_names=["search"], output_format="list", order_by=["start_time"]
            )
        ),
    )
