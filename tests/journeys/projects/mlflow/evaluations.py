"""Data sets for evaluation (records on the server), judgements by functions, registered scorers."""

import mlflow
from mlflow.genai import datasets
from mlflow.genai.scorers import Guidelines, scorer

client = mlflow.MlflowClient()


@scorer
def same(outputs, expectations):
    return outputs == expectations["answer"]


def flow(see):
    experiment = mlflow.get_experiment_by_name("evaluations").experiment_id
    made = datasets.create_dataset(name="questions", experiment_id=experiment, tags={"t": "1"})
    records = [
        {"inputs": {"question": "a"}, "expectations": {"answer": "A"}},
        {"inputs": {"question": "b"}, "expectations": {"answer": "B"}},
    ]
    see("merged", lambda: len(made.merge_records(records).to_df()))
    see("merged again", lambda: len(made.merge_records(records).to_df()))
    found = datasets.get_dataset(name="questions")
    see("found", lambda: [found.name, found.tags.get("t"), len(found.to_df())])
    see(
        "searched",
        lambda: [
            d.name
            for d in datasets.search_datasets(
                experiment_ids=[experiment], filter_string="name LIKE 'q%'"
            )
        ],
    )
    see("tags", lambda: datasets.set_dataset_tags(dataset_id=found.dataset_id, tags={"u": "2"}))
    see(
        "tags after",
        lambda: {
            k: v
            for k, v in datasets.get_dataset(dataset_id=found.dataset_id).tags.items()
            if not k.startswith("mlflow.")
        },
    )
    see(
        "judged",
        lambda: {
            k: float(v)
            for k, v in mlflow.genai.evaluate(
                data=found,
                predict_fn=lambda question: question.upper() if question == "a" else "?",
                scorers=[same],
            ).metrics.items()
        },
    )
    see("registered", lambda: same.register(name="same", experiment_id=experiment).name)
    see("listed", lambda: [one.name for one in mlflow.genai.list_scorers(experiment_id=experiment)])
    see("got", lambda: mlflow.genai.get_scorer(name="same", experiment_id=experiment).name)
    see(
        "deleted",
        lambda: mlflow.genai.delete_scorer(name="same", experiment_id=experiment, version="all"),
    )
    polite = Guidelines(name="polite", guidelines="Be polite.", model="openai:/some")
    see("a guideline", lambda: polite.register(name="polite", experiment_id=experiment).name)
    see(
        "guidelines",
        lambda: [one.name for one in mlflow.genai.list_scorers(experiment_id=experiment)],
    )
    see(
        "the guideline",
        lambda: mlflow.genai.get_scorer(name="polite", experiment_id=experiment).name,
    )
    see(
        "it goes",
        lambda: mlflow.genai.delete_scorer(name="polite", experiment_id=experiment, version="all"),
    )
    see("the set goes", lambda: datasets.delete_dataset(dataset_id=found.dataset_id))
    see("it is gone", lambda: datasets.get_dataset(dataset_id=found.dataset_id))
