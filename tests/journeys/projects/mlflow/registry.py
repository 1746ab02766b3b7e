"""The model registry: names, versions, aliases, tags, stages, copies; found again by search."""

import json

import mlflow
import pandas as pd
from sklearn.linear_model import LinearRegression

client = mlflow.MlflowClient()
ROWS = pd.DataFrame({"a": [1.0, 2.0, 3.0]})


def flow(see):
    with mlflow.start_run() as run:
        first = mlflow.sklearn.log_model(
            LinearRegression().fit(ROWS, [1, 2, 3]), name="one", registered_model_name="delays"
        )
    see("registered with the model", lambda: first.registered_model_version)
    with mlflow.start_run():
        second = mlflow.sklearn.log_model(LinearRegression().fit(ROWS, [2, 4, 6]), name="two")
    made = mlflow.register_model(second.model_uri, "delays", tags={"by": "hand"})
    see(
        "registered after", lambda: [made.name, int(made.version), made.status, made.tags.get("by")]
    )
    by_run = mlflow.register_model(f"runs:/{run.info.run_id}/one", "delays")
    see("by its run", lambda: [int(by_run.version), by_run.run_id == run.info.run_id])
    aliases(see)
    texts(see)
    versions(see, run)
    stages(see)
    search(see)
    copies(see, second)
    gone(see)


def answers(uri):
    return [round(float(x), 4) for x in mlflow.pyfunc.load_model(uri).predict(ROWS)]


def aliases(see):
    client.set_registered_model_alias("delays", "champion", "1")
    see("champion", lambda: answers("models:/delays@champion"))
    client.set_registered_model_alias("delays", "champion", "2")
    client.set_registered_model_alias("delays", "Other", 2)
    see("champion moved", lambda: answers("models:/delays@champion"))
    see("by number", lambda: answers("models:/delays/1"))
    see("latest", lambda: int(mlflow.pyfunc.load_model("models:/delays/latest") is not None))
    see("by alias", lambda: int(client.get_model_version_by_alias("delays", "champion").version))
    see(
        "aliases",
        lambda: {k: int(v) for k, v in client.get_registered_model("delays").aliases.items()},
    )
    see("aliases of a version", lambda: sorted(client.get_model_version("delays", "2").aliases))
    client.delete_registered_model_alias("delays", "Other")
    see("an alias gone", lambda: client.get_model_version_by_alias("delays", "Other"))
    see("gone twice", lambda: client.delete_registered_model_alias("delays", "Other"))
    see("a number as an alias", lambda: client.set_registered_model_alias("delays", "v1", "1"))
    see("latest as an alias", lambda: client.set_registered_model_alias("delays", "latest", "1"))
    see("an alias of none", lambda: client.set_registered_model_alias("delays", "a", "99"))
    see("an alias of no model", lambda: client.set_registered_model_alias("nobody", "a", "1"))
    see("load by no alias", lambda: answers("models:/delays@nobody"))


def texts(see):
    client.update_registered_model("delays", description="about it")
    client.update_model_version("delays", "1", description="the first")
    client.set_registered_model_tag("delays", "team", "owls")
    client.set_model_version_tag("delays", "1", "ok", "yes")
    mlflow.set_model_version_tag("delays", "2", "ok", "no")
    found = client.get_registered_model("delays")
    see("description", lambda: [found.description, found.tags])
    one = client.get_model_version("delays", "1")
    see("version", lambda: [one.description, one.tags.get("ok"), one.current_stage, one.source[:8]])
    client.delete_registered_model_tag("delays", "team")
    client.delete_model_version_tag("delays", "2", "ok")
    see(
        "tags gone",
        lambda: [
            client.get_registered_model("delays").tags,
            client.get_model_version("delays", "2").tags.get("ok"),
        ],
    )
    see(
        "where it is",
        lambda: client.get_model_version_download_uri("delays", "1").partition(":")[0],
    )


def versions(see, run):
    see("a second time", lambda: client.create_registered_model("delays"))
    see("an empty name", lambda: client.create_registered_model(""))
    see("a slash in the name", lambda: client.create_registered_model("a/b"))
    see(
        "a name with more",
        lambda: client.create_registered_model("with space.and-more", {"a": "b"}, "text").tags,
    )
    source = f"{run.info.artifact_uri}/one"
    see(
        "by hand",
        lambda: int(
            client.create_model_version(
                "delays", source, run.info.run_id, {"t": "1"}, description="d"
            ).version
        ),
    )
    see("elsewhere", lambda: client.create_model_version("delays", "s3://bucket/model").source)
    see("from a file", lambda: client.create_model_version("delays", "file:///etc/passwd"))
    see("from a path", lambda: client.create_model_version("delays", "/etc/passwd"))
    see("upwards", lambda: client.create_model_version("delays", "mlflow-artifacts:/../../x"))
    see("of no model", lambda: client.create_model_version("nobody", source))
    see("unknown version", lambda: client.get_model_version("delays", "99"))
    see("no number", lambda: client.get_model_version("delays", "x"))


def stages(see):
    see("stages", lambda: client.get_model_version_stages("delays", "1"))
    see(
        "to production",
        lambda: client.transition_model_version_stage("delays", "1", "Production").current_stage,
    )
    see(
        "next",
        lambda: (
            client.transition_model_version_stage(
                "delays", "2", "Production", archive_existing_versions=True
            ).current_stage
        ),
    )
    see("archived", lambda: client.get_model_version("delays", "1").current_stage)
    see(
        "latest of a stage",
        lambda: [int(v.version) for v in client.get_latest_versions("delays", ["Production"])],
    )
    see(
        "latest of all",
        lambda: sorted(int(v.version) for v in client.get_latest_versions("delays")),
    )
    see("by stage", lambda: answers("models:/delays/Production"))
    see("no stage", lambda: client.transition_model_version_stage("delays", "1", "Nonsense"))


def search(see):
    for number in range(3):
        client.create_registered_model(f"many {number}", tags={"n": str(number)})
    for text in (
        "name = 'delays'",
        "name LIKE 'many%'",
        "name ILIKE 'MANY%'",
        "tags.n = '1'",
        "name != 'delays'",
        "tags.n != '1'",
        "nonsense = 1",
        "name > 'a'",
    ):
        see(
            f"models where {text}",
            lambda text=text: sorted(
                m.name
                for m in client.search_registered_models(text)
                if not m.name.startswith("prompt")
            ),
        )
    see(
        "in order",
        lambda: [
            m.name
            for m in client.search_registered_models(
                "name LIKE 'many%'", order_by=["name DESC"], max_results=2
            )
        ],
    )
    page = client.search_registered_models("name LIKE 'many%'", max_results=2)
    see(
        "pages",
        lambda: [
            len(page),
            len(
                client.search_registered_models(
                    "name LIKE 'many%'", max_results=2, page_token=page.token
                )
            ),
        ],
    )
    for text in (
        "name = 'delays'",
        "name = 'delays' AND tags.ok = 'yes'",
        "version_number > 1 AND name = 'delays'",
        "run_id = 'x'",
        "source_path LIKE '%bucket%'",
        "name IN ('delays', 'x')",
        "nonsense = 1",
    ):
        see(
            f"versions where {text}",
            lambda text=text: sorted(int(v.version) for v in client.search_model_versions(text)),
        )
    see(
        "versions in order",
        lambda: [
            int(v.version)
            for v in client.search_model_versions(
                "name = 'delays'", order_by=["version_number DESC"], max_results=2
            )
        ],
    )
    see(
        "as functions",
        lambda: [
            len(mlflow.search_registered_models(filter_string="name LIKE 'many%'")),
            len(mlflow.search_model_versions(filter_string="name = 'delays'")),
        ],
    )


def copies(see, model):
    copied = client.copy_model_version("models:/delays/2", "copied")
    see("a copy", lambda: [copied.name, int(copied.version), answers("models:/copied/1")])
    see(
        "a copy by alias",
        lambda: int(client.copy_model_version("models:/delays@champion", "copied").version),
    )
    see("of a logged model", lambda: sorted(v["name"] for v in registered(model.model_id)))


def registered(model_id):
    return json.loads(client.get_logged_model(model_id).tags["mlflow.modelVersions"])


def gone(see):
    client.rename_registered_model("many 0", "renamed")
    see("renamed", lambda: client.get_registered_model("renamed").tags)
    see("old name", lambda: client.get_registered_model("many 0"))
    see("renamed to one there is", lambda: client.rename_registered_model("many 1", "many 2"))
    client.delete_model_version("delays", "1")
    see("a version gone", lambda: client.get_model_version("delays", "1"))
    see(
        "the next number",
        lambda: int(client.create_model_version("delays", "s3://bucket/again").version),
    )
    client.delete_registered_model("many 1")
    see("a model gone", lambda: client.get_registered_model("many 1"))
    see("gone twice too", lambda: client.delete_registered_model("many 1"))
